"""BatchNorm of a frozen base folded into the preceding convolution: one pass over the activations instead of three.

In inference mode BatchNorm is a multiplication and an addition. The kernel absorbs the factor; the summand becomes a
bias, which the library adds together with the ReLU while it computes the convolution.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import keras
import tensorflow as tf
from keras import layers

Convolution = Callable[[tf.Tensor, Any], tf.Tensor]


def fold_batch_norm(model: keras.Model) -> None:
    """Fold the BatchNorm layers of `model`, which stays in inference mode, into the convolutions before them.

    Layers, weights, gradients and saved files stay the same up to rounding.
    """
    for convolution, norm in _pairs(model):
        convolution.convolution_op = partial(_convolve, convolution.convolution_op, norm)
        norm.call = _identity


def _pairs(model: keras.Model) -> Iterator[tuple[layers.Conv2D, layers.BatchNormalization]]:
    convolutions = [layer for layer in model.layers if isinstance(layer, layers.Conv2D) and not layer.use_bias]
    by_output = {id(layer.output): layer for layer in convolutions}
    for norm in model.layers:
        if isinstance(norm, layers.BatchNormalization) and (before := by_output.get(id(norm.input))):
            yield before, norm


def _convolve(convolve: Convolution, norm: layers.BatchNormalization, images: tf.Tensor, kernel: Any) -> tf.Tensor:
    """Convolve in the number format of `images`; kernel and bias are computed in float32 and rounded once."""
    factor = tf.math.rsqrt(_float32(norm.moving_variance) + norm.epsilon)
    if norm.scale:
        factor *= _float32(norm.gamma)
    bias = _float32(norm.beta) - _float32(norm.moving_mean) * factor
    folded = tf.cast(_float32(kernel) * factor, images.dtype)
    return tf.nn.bias_add(convolve(images, folded), tf.cast(bias, images.dtype))


def _float32(value: Any) -> tf.Tensor:
    return tf.cast(value, tf.float32)


def _identity(inputs: tf.Tensor, training: bool | None = None, mask: Any = None) -> tf.Tensor:
    return inputs
