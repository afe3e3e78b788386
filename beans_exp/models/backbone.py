"""A base with a new head, cut at its blocks: frozen below a cut and trained above it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

from beans_exp.errors import ConfigError
from beans_exp.models.auxiliary import attach, tap_of
from beans_exp.models.blocks import STEM, find_blocks
from beans_exp.models.graph import Graph, calls
from beans_exp.models.regularization import dropout_layer, kernel_regularizer
from beans_exp.schema import Config, RegConfig

HEAD = ("pooling", "dropout1", "dense", "dropout2", "logits")
"""The names of the layers on the base, in order; a head has all or some of them."""
BASE = "base"


@dataclass(frozen=True)
class Base:
    """What a function may return for a base: a functional model, and what it takes raw images through before that."""

    network: keras.Model
    """Its outputs are the features (b, h, w, c), and the features (b, d) of auxiliary classifiers, if any."""
    scaling: Callable[[keras.KerasTensor], keras.KerasTensor]


class InferenceModel(keras.Model):
    """A functional model that is always in inference mode, so that BatchNorm keeps its statistics.

    `base(x, training=False)` is not enough: Keras 3.15 passes an outer model's `training=True` to every inner one.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        return super().call(inputs, training=False, mask=mask)


def with_head(base: Base, config: Config, classes: int) -> keras.Model:
    """Return `base` up to `model.top_block` with a new head; a pre-trained one stays in inference mode in every stage.

    Raises ConfigError for a top block or a depth that the base does not have.
    """
    size = config.data.image_size
    kind = InferenceModel if config.model.pretrained else keras.Model
    top = _top_output(base.network, config.model.top_block)
    network = kind(inputs=base.network.inputs[0], outputs=top, name=BASE)
    network.auxiliary_outputs = base.network.outputs[1:]
    inputs = keras.Input((size, size, 3), name="image")
    x = network(base.scaling(inputs))
    for layer in new_head(config, classes):
        x = layer(x)
    model = keras.Model(inputs, x, name=config.model.name)
    Cut.below(model, config.finetune.blocks)  # a depth that it does not have is refused now, not after a stage
    return model


def _top_output(network: keras.Model, top_block: str | None) -> keras.KerasTensor:
    features = keras.Model(network.inputs[0], network.outputs[0])
    if top_block is None:
        return network.outputs[0]
    blocks = {block.name: block.output for block in find_blocks(features)}
    blocks.pop(STEM)
    if top_block not in blocks:
        raise ConfigError(f"model.top_block={top_block}: must be one of {', '.join(blocks)}")
    return blocks[top_block]


def savable(model: keras.Model) -> keras.Model:
    """Return `model` with shared layers, built of Keras' own classes, so that it loads without this project."""
    base = model.get_layer(BASE)
    x = keras.Model(base.input, base.output, name=BASE)(_scaled_images(model), training=False)
    for layer in head_layers(model):
        x = layer(x)
    return keras.Model(model.input, x, name=model.name)


def _scaled_images(model: keras.Model) -> keras.KerasTensor:
    """What the base of `model` takes."""
    return next(call.input_tensors[0] for call in calls(model) if call.operation.name == BASE)


def has_base(model: keras.Model) -> bool:
    """Whether `model` is a base with a head."""
    return any(layer.name == BASE for layer in model.layers)


def head_layers(model: keras.Model) -> list[keras.Layer]:
    """Return the layers on the base, in order."""
    return [layer for layer in model.layers if layer.name in HEAD]


def new_head(config: Config, classes: int) -> list[keras.Layer]:
    """Return new layers for `HEAD`; on a pre-trained base, L1 and L2 apply to its Dense kernels."""
    reg = config.reg if config.model.pretrained else RegConfig(dropout=config.reg.dropout)
    found = [
        layers.GlobalAveragePooling2D(name="pooling"),
        dropout_layer(reg.dropout, "dropout1"),
        layers.Dense(1024, kernel_regularizer=kernel_regularizer(reg), name="dense"),
        dropout_layer(reg.dropout, "dropout2"),
        layers.Dense(classes, kernel_regularizer=kernel_regularizer(reg), dtype="float32", name="logits"),
    ]
    return [layer for layer in found if isinstance(layer, keras.Layer)]


@dataclass(frozen=True)
class Cut:
    """The border between frozen and trained layers; `name` is `image`, `stem`, a block, or `pooling`."""

    name: str

    @classmethod
    def bottom_up(cls, model: keras.Model) -> "list[Cut]":
        """Return every cut of the base of `model`, from the raw images to the pooled output of its top block."""
        below_the_top = find_blocks(model.get_layer(BASE))[:-1]
        return [cls(name) for name in ("image", *(block.name for block in below_the_top), "pooling")]

    @classmethod
    def below(cls, model: keras.Model, blocks: int) -> "Cut":
        """Return the cut below the top `blocks` blocks of the base of `model`; the stem is the last.

        Raises ConfigError for more blocks than it has.
        """
        cuts = cls.bottom_up(model)
        if blocks >= len(cuts):
            where = f"the base of model={model.name} (the stem counts as the last block)"
            raise ConfigError(f"finetune.blocks={blocks}: must be between 0 and {len(cuts) - 1} with {where}")
        return cuts[-1 - blocks]


def cut_output(base: keras.Model, cut: Cut) -> keras.KerasTensor:
    """Return the last frozen tensor of `base` for `cut`."""
    if cut.name in ("image", "pooling"):
        return base.input if cut.name == "image" else base.output
    return next(block.output for block in find_blocks(base) if block.name == cut.name)


def unfreeze_above(model: keras.Model, cut: Cut) -> None:
    """Make the layers of the base trainable above `cut` and frozen below it."""
    base = model.get_layer(BASE)
    below = keras.Model(base.input, cut_output(base, cut)).layers
    for layer in base.layers:  # the flag of the base itself does not reach layers that were set before
        layer.trainable = layer not in below


def between(model: keras.Model, below: Cut, above: Cut) -> keras.Model:
    """Return the layers of the frozen base from the activations at `below` (or raw images) to those at `above`."""
    inputs, x = _start(model, below)
    base = model.get_layer(BASE)
    x = _segment(base, below, [cut_output(base, above)])(x)[0]
    return keras.Model(inputs, model.get_layer("pooling")(x) if above.name == "pooling" else x)


def graph_above(model: keras.Model, cut: Cut, *, auxiliary: bool = False) -> Graph:
    """Return the network above `cut`: the rest of the base, the head, and new `auxiliary` classifiers on the base.

    There are none if no layer of the base lies above the cut.
    """
    inputs, x = _start(model, cut)
    base, classifiers = model.get_layer(BASE), []
    if cut.name != "pooling":
        others = base.auxiliary_outputs if auxiliary else []
        taps = [tap_of(base.output, output) for output in others]
        x, *onto = _segment(base, cut, [base.output, *taps])(x)
        for output, tap, tensor in zip(others, taps, onto, strict=True):
            features = attach(output, tap, tensor)
            logits = layers.Dense(model.output.shape[-1], dtype="float32", name=f"aux_{output.name}_logits")
            classifiers.append(logits(features))
    for layer in head_layers(model):
        if cut.name != "pooling" or layer.name != "pooling":
            x = layer(x)
    return Graph(inputs, x, classifiers)


def _start(model: keras.Model, cut: Cut) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """The input of a network that starts at `cut`, and the tensor to continue from."""
    if cut.name == "image":
        return model.input, _scaled_images(model)
    base = model.get_layer(BASE)
    output = model.get_layer("pooling").output if cut.name == "pooling" else cut_output(base, cut)
    activations = keras.Input(output.shape[1:], dtype=output.dtype, name="activations")
    return activations, activations


def _segment(base: keras.Model, cut: Cut, outputs: list[keras.KerasTensor]) -> keras.Model:
    """The layers of `base` from `cut` to `outputs`, in inference mode if the base is."""
    return type(base)(inputs=cut_output(base, cut), outputs=outputs, name="segment")
