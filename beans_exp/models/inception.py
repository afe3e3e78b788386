"""Inception-v3 (arXiv 1512.00567), with an optional auxiliary classifier for its training."""

from typing import Annotated

import keras
from keras import layers

from beans_exp.models.auxiliary import without_drawing
from beans_exp.models.backbone import Base
from beans_exp.models.cpu import speed_up


def inception(
    image_size: Annotated[int, "299 if aux_weight else 75"],
    *,
    weights: str | None = None,
    aux_weight: Annotated[float, "mixed7"] = 0.0,
) -> Base:
    """Return Inception-v3 without its top: 21,802,784 parameters.

    With `aux_weight`, the features of an auxiliary classifier are its second output; it needs 17x17 positions.
    """
    shape = (image_size, image_size, 3)
    network = keras.applications.InceptionV3(include_top=False, weights=weights, input_shape=shape)
    speed_up(network, is_frozen=weights is not None)
    if aux_weight:
        with without_drawing():
            auxiliary = _auxiliary(network.get_layer("mixed7").output)
        network = keras.Model(network.input, [network.output, auxiliary])
    return Base(network, layers.Rescaling(1 / 127.5, offset=-1, name="rescaling"))


def _auxiliary(x: keras.KerasTensor) -> keras.KerasTensor:
    """Average pooling 5x5 stride 3, and convolutions 1x1 to 128 and 5x5 to 768."""
    x = layers.AveragePooling2D(5, strides=3, name="aux_pooling")(x)
    x = layers.Conv2D(128, 1, activation="relu", name="aux_conv1")(x)
    x = layers.Conv2D(768, 5, activation="relu", name="aux_conv2")(x)
    return layers.Flatten(name="aux_flatten")(x)
