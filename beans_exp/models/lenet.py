"""The LeNet of the report: three valid convolutions, two poolings, Dense 50, for color images of any size."""

import keras
from keras import layers

from beans_exp.models.regularization import dropout, kernel_regularizer
from beans_exp.schema import Config, KernelConfig, RegConfig


def build_lenet(config: Config, classes: int) -> keras.Model:
    """Return LeNet: 26,985,195 parameters with the defaults at 299x299 and three classes, almost all in Dense 50."""
    size = config.data.image_size
    inputs = keras.Input((size, size, 3), name="image")
    x = layers.Rescaling(1 / 255, name="rescaling")(inputs)
    for number, (before, after) in enumerate(_channels(config.kernel), start=1):
        x = _convolution(x, f"conv{number}", before, after, config.kernel, config.reg)
        if number < 3:
            x = layers.MaxPooling2D(2, name=f"pool{number}")(x)
    x = layers.Flatten(name="flatten")(x)
    x = dropout(config.reg, "dropout1")(x)
    x = layers.Dense(50, activation="relu", name="dense")(x)
    x = dropout(config.reg, "dropout2")(x)
    logits = layers.Dense(classes, dtype="float32", name="logits")(x)
    return keras.Model(inputs, logits, name="lenet")


def _channels(kernel: KernelConfig) -> list[tuple[int, int]]:
    """The channels before and after each convolution."""
    return list(zip([3, *kernel.filters[:-1]], kernel.filters, strict=True))


def _convolution(
    x: keras.KerasTensor, name: str, before: int, after: int, kernel: KernelConfig, reg: RegConfig
) -> keras.KerasTensor:
    """One convolution, or two 3x3 in place of a 5x5 (arXiv 1512.00567, 3.1): the same receptive field for less work."""
    if not kernel.factorized:
        return _conv(after, kernel.size, name, reg)(x)
    middle = round((before * after) ** 0.5)
    x = _conv(middle, 3, f"{name}a", reg)(x)
    return _conv(after, 3, f"{name}b", reg)(x)


def _conv(filters: int, size: int, name: str, reg: RegConfig) -> layers.Conv2D:
    return layers.Conv2D(filters, size, activation="relu", kernel_regularizer=kernel_regularizer(reg), name=name)
