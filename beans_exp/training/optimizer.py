"""The optimizer of a stage."""

import keras
import tensorflow as tf

from beans_exp.training.history import Stage


def stage_optimizer(name: str, stage: Stage, steps: int) -> keras.optimizers.Optimizer:
    """Return a new Keras optimizer at the learning rate of `stage`; a cosine schedule reaches 0 at its last step."""
    rate = stage.learning_rate
    if stage.schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(rate, stage.epochs * steps)
    if name == "adam":
        return FusedAdam(rate)
    return keras.optimizers.get({"class_name": name, "config": {"learning_rate": rate}})


class FusedAdam(keras.optimizers.Adam):
    """Keras' Adam with one pass over memory per variable and step: faster on CPUs, equal up to rounding."""

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        """Update `variable` and its two moments in place."""
        index = self._get_variable_index(variable)
        dtype = variable.dtype
        step = tf.cast(self.iterations + 1, dtype)
        rates = [tf.cast(rate, dtype) for rate in (self.beta_1, self.beta_2)]
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].handle,
            v=self._velocities[index].handle,
            beta1_power=rates[0] ** step,
            beta2_power=rates[1] ** step,
            lr=tf.cast(learning_rate, dtype),
            beta1=rates[0],
            beta2=rates[1],
            epsilon=tf.cast(self.epsilon, dtype),
            grad=tf.cast(gradient, dtype),
        )
