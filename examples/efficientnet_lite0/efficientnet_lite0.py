"""EfficientNet-Lite0 (Google 2020): EfficientNet-B0 without squeeze-and-excitation, with ReLU6 for swish."""

import keras
import numpy as np
from keras import layers

STAGES = (  # blocks, kernel, stride of the first, expansion, channels
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


def efficientnet_lite0(image_size: int, *, weights: str | None = None, head: bool = True) -> keras.Model:
    """Return the network without its classifier, from raw images; without `head` it ends at the last block.

    `weights` is a file of `make_weights.py`. Raises ValueError for one of another network.
    """
    images = keras.Input((image_size, image_size, 3), name="image")
    x = layers.Rescaling(1 / 128, offset=-127 / 128, name="rescaling")(images)
    x = _convolution(x, "stem", layers.Conv2D(32, 3, strides=2, padding="same", use_bias=False, name="stem"))
    number = 0
    for blocks, kernel, stride, expansion, channels in STAGES:
        for place in range(blocks):
            number += 1
            x = _block(x, f"block{number}", kernel, 1 if place else stride, expansion, channels)
    if head:
        x = _convolution(x, "head", layers.Conv2D(1280, 1, use_bias=False, name="head"))
    model = keras.Model(images, x, name="efficientnet_lite0")
    if weights is not None:
        _load(model, weights)
    return model


def _block(
    x: keras.KerasTensor, name: str, kernel: int, stride: int, expansion: int, channels: int
) -> keras.KerasTensor:
    """An inverted residual block: wider, filtered by channel, narrower, and its input added where that fits."""
    below, wide = x, expansion * x.shape[-1]
    if expansion > 1:
        x = _convolution(x, f"{name}.expand", layers.Conv2D(wide, 1, use_bias=False, name=f"{name}.expand"))
    depthwise = layers.DepthwiseConv2D(kernel, stride, padding="same", use_bias=False, name=f"{name}.depthwise")
    x = _convolution(x, f"{name}.depthwise", depthwise)
    project = layers.Conv2D(channels, 1, use_bias=False, name=f"{name}.project")
    x = _convolution(x, f"{name}.project", project, is_linear=True)
    return layers.Add(name=name)([below, x]) if x.shape == below.shape else x


def _convolution(
    x: keras.KerasTensor, name: str, convolution: layers.Layer, is_linear: bool = False
) -> keras.KerasTensor:
    x = layers.BatchNormalization(epsilon=1e-3, name=f"{name}.bn")(convolution(x))
    return x if is_linear else layers.ReLU(6.0, name=f"{name}.relu")(x)


def _load(model: keras.Model, file: str) -> None:
    """Set every variable of `model` to the array of its name in `file`, which is read without running code."""
    with np.load(file, allow_pickle=False) as arrays:
        for layer in model.layers:
            names = ("gamma", "beta", "mean", "variance") if layer.name.endswith(".bn") else ("kernel",)
            keys = [f"{layer.name}.{name}" for name in names] if layer.weights else []
            if missing := [key for key in keys if key not in arrays]:
                raise ValueError(f"{missing[0]} is missing in {file}")
            layer.set_weights([arrays[key] for key in keys])
