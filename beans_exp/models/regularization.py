"""The regularizers, layers and loss of a `reg` option, new objects for each layer of each model."""

from collections.abc import Callable

import keras

from beans_exp.schema import RegConfig

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


def dropout(reg: RegConfig, name: str, usual: float = 0.0) -> Layers:
    """Return a dropout layer at `reg.dropout`, else at the `usual` rate of the architecture, else the identity."""
    rate = reg.dropout or usual
    return keras.layers.Dropout(rate, name=name) if rate else lambda x: x


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
