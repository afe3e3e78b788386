"""Gradient accumulation within a step: a batch is computed in parts, so that it fits a small memory."""

import keras
import tensorflow as tf


def accumulate_gradients(model: keras.Model, microbatch: int) -> keras.Model:
    """Return a model on the same layers whose training step holds `microbatch` images in memory at once.

    The step's gradient is the mean over the whole batch, as without it; only BatchNorm's batch statistics differ.
    """
    split = _Accumulating(inputs=model.inputs, outputs=model.outputs, name=model.name)
    split.microbatch = microbatch
    return split


class _Accumulating(keras.Model):
    microbatch: int

    def train_step(self, data: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        images, labels, _ = keras.utils.unpack_x_y_sample_weight(data)
        count = tf.shape(images)[0]
        weights = self.trainable_weights

        def part(start: tf.Tensor, *sums: tf.Tensor) -> tuple[tf.Tensor, ...]:
            stop = tf.minimum(start + self.microbatch, count)
            gradients = self._gradients(images[start:stop], labels[start:stop])
            share = tf.cast(stop - start, tf.float32) / tf.cast(count, tf.float32)
            return stop, *(total + share * gradient for total, gradient in zip(sums, gradients, strict=True))

        zeros = [tf.zeros_like(weight) for weight in weights]
        _, *gradients = tf.while_loop(
            lambda start, *_: start < count, part, (tf.constant(0), *zeros), parallel_iterations=1
        )
        self.optimizer.apply_gradients(zip(gradients, weights, strict=True))
        return self.get_metrics_result()

    def _gradients(self, images: tf.Tensor, labels: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            logits = self(images, training=True)
            loss = self.compute_loss(x=images, y=labels, y_pred=logits, training=True)
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(loss, sample_weight=tf.shape(images)[0])
            else:
                metric.update_state(labels, logits)
        return tape.gradient(loss, self.trainable_weights)
