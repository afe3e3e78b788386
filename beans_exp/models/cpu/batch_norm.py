"""BatchNorm of a frozen base folded into the convolution before it: one pass over the activations in place of three.

In inference mode BatchNorm multiplies and adds constants. The kernel takes the factor, and the sum is a bias, which the
library adds together with the ReLU while it computes the convolution.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import keras
import tensorflow as tf
from keras import layers

Convolution = Callable[[tf.Tensor, Any], tf.Tensor]


def fold_batch_norm(model: keras.Model) -> None:
    """Let the convolutions of `model`, which stays in inference mode, compute the BatchNorm that follows them.

    Layers, weights, gradients and what is saved stay as they are, but for rounding.
    """
    for convolution, norm in _pairs(model):
        convolution.convolution_op = partial(_convolve, convolution.convolution_op, norm)
        norm.call = _pass_on


def _pairs(model: keras.Model) -> Iterator[tuple[layers.Conv2D, layers.BatchNormalization]]:
    convolutions = [layer for layer in model.layers if isinstance(layer, layers.Conv2D) and not layer.use_bias]
    by_output = {id(layer.output): layer for layer in convolutions}
    for norm in model.layers:
        if isinstance(norm, layers.BatchNormalization) and (before := by_output.get(id(norm.input))):
            yield before, norm


def _convolve(convolve: Convolution, norm: layers.BatchNormalization, images: tf.Tensor, kernel: Any) -> tf.Tensor:
    """In `images`' number format; what is folded is computed in float32 and rounded once."""
    factor = tf.math.rsqrt(_exact(norm.moving_variance) + norm.epsilon)
    if norm.scale:
        factor *= _exact(norm.gamma)
    bias = _exact(norm.beta) - _exact(norm.moving_mean) * factor
    folded = tf.cast(_exact(kernel) * factor, images.dtype)
    return tf.nn.bias_add(convolve(images, folded), tf.cast(bias, images.dtype))


def _exact(value: Any) -> tf.Tensor:
    return tf.cast(value, tf.float32)


def _pass_on(inputs: tf.Tensor, training: bool | None = None, mask: Any = None) -> tf.Tensor:
    return inputs
