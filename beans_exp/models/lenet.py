"""The LeNet of the report: three valid convolutions, two poolings, Dense 50, for color images of any size."""

from collections.abc import Sequence
from typing import Annotated

import keras
from keras import layers

from beans_exp.models.regularization import dropout_layer


def lenet(
    image_size: Annotated[int, "7 * kernel_size - 3"],
    classes: int,
    *,
    kernel_size: int = 5,
    filters: Sequence[int] = (6, 16, 120),
    factorized: bool = False,
    dropout: float = 0.0,
) -> keras.Model:
    """Return LeNet: 26,985,195 parameters with the defaults at 299x299 and three classes, almost all in Dense 50."""
    inputs = keras.Input((image_size, image_size, 3), name="image")
    x = layers.Rescaling(1 / 255, name="rescaling")(inputs)
    channels = zip([3, *filters[:-1]], filters, strict=True)
    for number, (before, after) in enumerate(channels, start=1):
        x = _convolution(x, f"conv{number}", before, after, None if factorized else kernel_size)
        if number < 3:
            x = layers.MaxPooling2D(2, name=f"pool{number}")(x)
    x = layers.Flatten(name="flatten")(x)
    x = dropout_layer(dropout, "dropout1")(x)
    x = layers.Dense(50, activation="relu", name="dense")(x)
    x = dropout_layer(dropout, "dropout2")(x)
    logits = layers.Dense(classes, dtype="float32", name="logits")(x)
    return keras.Model(inputs, logits, name="lenet")


def _convolution(x: keras.KerasTensor, name: str, before: int, after: int, size: int | None) -> keras.KerasTensor:
    """One convolution, or without `size` two 3x3 in place of a 5x5 (arXiv 1512.00567, 3.1): the same receptive field
    for less work.
    """
    if size is not None:
        return layers.Conv2D(after, size, activation="relu", name=name)(x)
    middle = round((before * after) ** 0.5)
    x = layers.Conv2D(middle, 3, activation="relu", name=f"{name}a")(x)
    return layers.Conv2D(after, 3, activation="relu", name=f"{name}b")(x)
