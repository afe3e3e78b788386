"""GoogLeNet of Szegedy et al. 2014 (arXiv 1409.4842), nine Inception cells, from scratch.

It lacks local response normalization, which has no parameters and is missing in Keras.
"""

from typing import Annotated

import keras
from keras import layers

from beans_exp.models.regularization import dropout_layer

CELLS = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
"""Filters of each cell, table 1: 1x1; 3x3 reduce, 3x3; 5x5 reduce, 5x5; pool projection."""
AUX_CELLS = ("4a", "4d")


def googlenet(
    image_size: Annotated[int, "65 if aux_weight else 32"],
    classes: int,
    *,
    factorized: bool = False,
    dropout: float = 0.4,
    aux_weight: float = 0.0,
) -> keras.Model:
    """Return GoogLeNet: 5,976,627 parameters with three classes.

    With `aux_weight`, the logits of two auxiliary classifiers are further outputs; they need 5x5 positions.
    """
    inputs = keras.Input((image_size, image_size, 3), name="image")
    x = layers.Rescaling(1 / 127.5, offset=-1, name="rescaling")(inputs)
    x = _conv(64, 7, "conv1", strides=2)(x)
    x = _pool("pool1")(x)
    x = _conv(64, 1, "conv2_reduce")(x)
    x = _conv(192, 3, "conv2")(x)
    x = _pool("pool2")(x)
    cells = {}
    for name in CELLS:
        x = cells[name] = _cell(x, name, factorized)
        if name in ("3b", "4e"):
            x = _pool(f"pool{name[0]}")(x)
    x = layers.GlobalAveragePooling2D(name="pooling")(x)
    x = dropout_layer(dropout, "dropout")(x)
    logits = layers.Dense(classes, dtype="float32", name="logits")(x)
    auxiliary = [_auxiliary(cells[name], name, classes) for name in AUX_CELLS] if aux_weight else []
    return keras.Model(inputs, [logits, *auxiliary], name="googlenet")


def _cell(x: keras.KerasTensor, name: str, factorized: bool) -> keras.KerasTensor:
    """One Inception cell: four parallel branches, concatenated by channels."""
    one, three_reduce, three, five_reduce, five, projection = CELLS[name]
    branches = [
        _conv(one, 1, f"{name}_1x1")(x),
        _conv(three, 3, f"{name}_3x3")(_conv(three_reduce, 1, f"{name}_3x3_reduce")(x)),
        _five(_conv(five_reduce, 1, f"{name}_5x5_reduce")(x), five_reduce, five, f"{name}_5x5", factorized),
        _conv(projection, 1, f"{name}_projection")(_pool(f"{name}_pool", strides=1)(x)),
    ]
    return layers.Concatenate(name=name)(branches)


def _five(x: keras.KerasTensor, before: int, after: int, name: str, factorized: bool) -> keras.KerasTensor:
    """A 5x5 convolution, or two 3x3 in its place (arXiv 1512.00567, 3.1)."""
    if not factorized:
        return _conv(after, 5, name)(x)
    return _conv(after, 3, f"{name}b")(_conv(round((before * after) ** 0.5), 3, f"{name}a")(x))


def _conv(filters: int, size: int, name: str, strides: int = 1) -> layers.Conv2D:
    return layers.Conv2D(filters, size, strides=strides, padding="same", activation="relu", name=name)


def _pool(name: str, strides: int = 2) -> layers.MaxPooling2D:
    return layers.MaxPooling2D(3, strides=strides, padding="same", name=name)


def _auxiliary(x: keras.KerasTensor, cell: str, classes: int) -> keras.KerasTensor:
    """An auxiliary classifier on `cell` (section 5 of the paper)."""
    x = layers.AveragePooling2D(5, strides=3, name=f"aux_{cell}_pooling")(x)
    x = _conv(128, 1, f"aux_{cell}_conv")(x)
    x = layers.Flatten(name=f"aux_{cell}_flatten")(x)
    x = layers.Dense(1024, activation="relu", name=f"aux_{cell}_dense")(x)
    x = layers.Dropout(0.7, name=f"aux_{cell}_dropout")(x)
    return layers.Dense(classes, dtype="float32", name=f"aux_{cell}_logits")(x)
