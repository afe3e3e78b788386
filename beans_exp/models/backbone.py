"""A pre-trained base with a new head, cut at its blocks: frozen below a cut and trained above it."""

from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

from beans_exp.models.graph import Graph
from beans_exp.models.regularization import dropout, kernel_regularizer
from beans_exp.schema import Config, ModelConfig, RegConfig
from beans_exp.schema.names import BLOCKS

HEAD = ("pooling", "dropout1", "dense", "dropout2", "logits")
"""The names of the layers on the base, in order; a head has all or some of them."""


class InferenceModel(keras.Model):
    """A functional model that is always in inference mode, so that BatchNorm keeps its statistics.

    `base(x, training=False)` is not enough: Keras 3.15 passes an outer model's `training=True` to every inner one.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        return super().call(inputs, training=False, mask=mask)


def savable(model: keras.Model) -> keras.Model:
    """Return `model` with shared layers, built of Keras' own classes, so that it loads without this project."""
    base = model.get_layer("base")
    x = keras.Model(base.input, base.output, name="base")(model.get_layer("rescaling").output, training=False)
    for layer in head_layers(model):
        x = layer(x)
    return keras.Model(model.input, x, name=model.name)


def head_layers(model: keras.Model) -> list[keras.Layer]:
    """Return the layers on the base, in order."""
    return [layer for layer in model.layers if layer.name in HEAD]


def new_head(config: Config, classes: int) -> list[keras.Layer]:
    """Return new layers for `HEAD`; on a pre-trained base, L1 and L2 apply to its Dense kernels."""
    reg = config.reg if config.model.pretrained else RegConfig(dropout=config.reg.dropout)
    found = [
        layers.GlobalAveragePooling2D(name="pooling"),
        dropout(reg, "dropout1"),
        layers.Dense(1024, kernel_regularizer=kernel_regularizer(reg), name="dense"),
        dropout(reg, "dropout2"),
        layers.Dense(classes, kernel_regularizer=kernel_regularizer(reg), dtype="float32", name="logits"),
    ]
    return [layer for layer in found if isinstance(layer, keras.Layer)]


@dataclass(frozen=True)
class Cut:
    """The border between frozen and trained layers; `name` is `image`, `stem`, a block, or `pooling`."""

    name: str

    @classmethod
    def bottom_up(cls, model: ModelConfig) -> "list[Cut]":
        """Return every cut of the base, from the raw images to the pooled output of `model.top_block`."""
        top = BLOCKS.index(str(model.top_block))
        return [cls(name) for name in ("image", "stem", *BLOCKS[:top], "pooling")]

    @classmethod
    def below(cls, model: ModelConfig, blocks: int) -> "Cut":
        """Return the cut below the top `blocks` blocks, counted down from `model.top_block`; the stem is the last."""
        return cls.bottom_up(model)[-1 - blocks]


def cut_layer(base: keras.Model, cut: Cut) -> keras.Layer:
    """Return the last frozen layer of `base` for `cut`."""
    if cut.name == "image":
        return base.layers[0]
    if cut.name == "stem":
        return [layer for layer in base.layers if isinstance(layer, layers.MaxPooling2D)][1]
    return base.layers[-1] if cut.name == "pooling" else base.get_layer(cut.name)


def unfreeze_above(model: keras.Model, cut: Cut) -> None:
    """Make the layers of the base trainable above `cut` and frozen below it."""
    base = model.get_layer("base")
    below = keras.Model(base.input, cut_layer(base, cut).output).layers
    for layer in base.layers:  # the flag of the base itself does not reach layers that were set before
        layer.trainable = layer not in below


def between(model: keras.Model, below: Cut, above: Cut) -> keras.Model:
    """Return the layers of the frozen base from the activations at `below` (or raw images) to those at `above`."""
    inputs, x = _start(model, below)
    base = model.get_layer("base")
    x = _segment(base, below, [cut_layer(base, above).output])(x)[0]
    return keras.Model(inputs, model.get_layer("pooling")(x) if above.name == "pooling" else x)


def graph_above(model: keras.Model, cut: Cut, tap: str | None = None) -> tuple[Graph, keras.KerasTensor | None]:
    """Return the network above `cut`, the rest of the base and the head, and the output of its block `tap`.

    The output is None without a tap, and if no layer of the base lies above the cut.
    """
    inputs, x = _start(model, cut)
    base, taps = model.get_layer("base"), []
    if cut.name != "pooling":
        outputs = [base.output, base.get_layer(tap).output] if tap else [base.output]
        x, *taps = _segment(base, cut, outputs)(x)
    for layer in head_layers(model):
        if cut.name != "pooling" or layer.name != "pooling":
            x = layer(x)
    return Graph(inputs, x), taps[0] if taps else None


def _start(model: keras.Model, cut: Cut) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """The input of a network that starts at `cut`, and the tensor to continue from."""
    if cut.name == "image":
        return model.input, model.get_layer("rescaling").output
    layer = model.get_layer("pooling") if cut.name == "pooling" else cut_layer(model.get_layer("base"), cut)
    activations = keras.Input(layer.output.shape[1:], dtype=layer.compute_dtype, name="activations")
    return activations, activations


def _segment(base: keras.Model, cut: Cut, outputs: list[keras.KerasTensor]) -> keras.Model:
    """The layers of `base` from `cut` to `outputs`, in inference mode if the base is."""
    return type(base)(inputs=cut_layer(base, cut).output, outputs=outputs, name="segment")
