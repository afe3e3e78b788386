"""The regularizers, layers and loss of a `reg` option, new objects for each layer of each model."""

from collections.abc import Callable

import keras
from keras import layers

from beans_exp.errors import ConfigError
from beans_exp.schema import RegConfig

CONVOLUTIONS = (
    *(layers.Conv1D, layers.Conv2D, layers.Conv3D),
    *(layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose),
    *(layers.DepthwiseConv1D, layers.DepthwiseConv2D, layers.SeparableConv1D, layers.SeparableConv2D),
)
REGULARIZERS = (
    ("kernel", "kernel_regularizer"),
    ("kernel", "depthwise_regularizer"),
    ("depthwise_kernel", "depthwise_regularizer"),
    ("pointwise_kernel", "pointwise_regularizer"),
)
"""Kernels and their regularizers; no layer has two regularizers for one kernel."""

Layers = Callable[[keras.KerasTensor], keras.KerasTensor]


def kernel_regularizer(reg: RegConfig) -> keras.regularizers.Regularizer | None:
    """Return a new L1, L2 or L1L2 penalty for the kernel of one layer, or None; Keras sums it over the kernel."""
    if reg.l1 and reg.l2:
        return keras.regularizers.L1L2(l1=reg.l1, l2=reg.l2)
    if reg.l1:
        return keras.regularizers.L1(reg.l1)
    if reg.l2:
        return keras.regularizers.L2(reg.l2)
    return None


def penalize(model: keras.Model, reg: RegConfig) -> None:
    """Put the L1 or L2 penalty of `reg` on every convolution kernel of `model`, which is trained from random weights.

    A model without convolutions gets it on its Dense kernels. Raises ConfigError for a model that has neither.
    """
    if kernel_regularizer(reg) is None:
        return
    every = list(model._flatten_layers())
    found = [layer for layer in every if isinstance(layer, CONVOLUTIONS)]
    found = found or [layer for layer in every if isinstance(layer, layers.Dense)]
    if not found:
        key, value = ("reg.l1", reg.l1) if reg.l1 else ("reg.l2", reg.l2)
        raise ConfigError(f"{key}={value:g} has no effect: model={model.name} has no convolution and no Dense layer")
    for layer in found:
        for kernel, regularizer in REGULARIZERS:
            if hasattr(layer, kernel) and hasattr(layer, regularizer):
                penalty = kernel_regularizer(reg)
                setattr(layer, regularizer, penalty)  # is saved with the model
                getattr(layer, kernel).regularizer = penalty  # is added to the loss


def dropout_layer(rate: float, name: str) -> Layers:
    """Return a dropout layer, or the identity at a rate of 0."""
    return layers.Dropout(rate, name=name) if rate else lambda x: x


def loss(reg: RegConfig, classes: int) -> keras.losses.Loss:
    """Return the cross-entropy of logits (b, classes) with integer labels (b,), with the label smoothing of `reg`."""
    if not reg.label_smoothing:
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return SmoothedCrossentropy(classes, reg.label_smoothing)


class SmoothedCrossentropy(keras.losses.Loss):
    """Cross-entropy from logits with targets smoothed toward the uniform distribution (arXiv 1512.00567, 7)."""

    def __init__(self, classes: int, smoothing: float) -> None:
        super().__init__(name="smoothed_crossentropy")
        self.classes = classes
        self.smoothing = smoothing

    def call(self, y_true: keras.KerasTensor, y_pred: keras.KerasTensor) -> keras.KerasTensor:
        targets = keras.ops.one_hot(keras.ops.reshape(y_true, (-1,)), self.classes)
        return keras.losses.categorical_crossentropy(targets, y_pred, from_logits=True, label_smoothing=self.smoothing)
