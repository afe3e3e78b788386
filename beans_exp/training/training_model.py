"""The model that is fitted: it shares the layers of the saved model and adds what only training needs.

Gradient accumulation splits a batch so that it fits into little memory; auxiliary classifiers add their loss.
"""

from typing import Any

import keras
import tensorflow as tf

from beans_exp.models.graph import Graph
from beans_exp.models.regularization import loss
from beans_exp.schema import Config


def training_model(model: keras.Model, graph: Graph, config: Config) -> keras.Model:
    """Return the model to fit: `graph`, which shares the layers of `model`, or `model` itself if they are the same.

    With `trainer.microbatch`, a step holds that many images in memory. The gradient is still the mean over the whole
    batch; only the batch statistics of BatchNorm differ. Metrics and validation use the logits alone.
    """
    if not config.trainer.microbatch and not graph.auxiliary:
        return model if graph.logits is model.output else keras.Model(graph.inputs, graph.logits, name=model.name)
    fitted = _TrainingModel(inputs=graph.inputs, outputs=[graph.logits, *graph.auxiliary], name=model.name)
    fitted.microbatch = config.trainer.microbatch
    fitted.auxiliary_weight = config.reg.aux_weight
    fitted.auxiliary_loss = loss(config.reg, graph.logits.shape[-1])
    return fitted


class _TrainingModel(keras.Model):
    microbatch: int | None
    auxiliary_weight: float
    auxiliary_loss: keras.losses.Loss

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> tf.Tensor:
        logits, *auxiliary = _as_list(y_pred)
        total = super().compute_loss(x, y, logits, sample_weight, training)
        if training:
            for other in auxiliary:
                total += self.auxiliary_weight * self.auxiliary_loss(y, other)
        return total

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, tf.Tensor]:
        return super().compute_metrics(x, y, _as_list(y_pred)[0], sample_weight)

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        if self.microbatch is None:
            return super().train_step(data)
        images, labels, _ = keras.utils.unpack_x_y_sample_weight(data)
        gradients = self._accumulate(images, labels, self.microbatch)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_weights, strict=True))
        return self.get_metrics_result()

    def _accumulate(self, images: tf.Tensor, labels: tf.Tensor, size: int) -> list[tf.Tensor]:
        """The gradients of the mean loss over the batch, computed `size` images at a time."""
        count = tf.shape(images)[0]

        def add_microbatch(start: tf.Tensor, *sums: tf.Tensor) -> tuple[tf.Tensor, ...]:
            stop = tf.minimum(start + size, count)
            gradients = self._gradients(images[start:stop], labels[start:stop])
            share = tf.cast(stop - start, tf.float32) / tf.cast(count, tf.float32)
            return stop, *(total + share * gradient for total, gradient in zip(sums, gradients, strict=True))

        zeros = [tf.zeros_like(weight) for weight in self.trainable_weights]
        begin = (tf.constant(0), *zeros)
        _, *gradients = tf.while_loop(lambda start, *_: start < count, add_microbatch, begin, parallel_iterations=1)
        return gradients

    def _gradients(self, images: tf.Tensor, labels: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            outputs = self(images, training=True)
            loss = self.compute_loss(x=images, y=labels, y_pred=outputs, training=True)
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(loss, sample_weight=tf.shape(images)[0])
            else:
                metric.update_state(labels, _as_list(outputs)[0])
        return tape.gradient(loss, self.trainable_weights)


def _as_list(outputs: Any) -> list[tf.Tensor]:
    """The outputs of a model, which Keras returns without a list if there is only one."""
    return list(outputs) if isinstance(outputs, list | tuple) else [outputs]
