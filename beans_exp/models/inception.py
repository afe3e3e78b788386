"""Inception-v3 (arXiv 1512.00567) with a new head: a base that can be cut at its blocks, and what is trained above."""

import warnings
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

from beans_exp.errors import DataError
from beans_exp.models.folding import fold_batch_norm
from beans_exp.models.gradients import speed_up_kernel_gradients
from beans_exp.models.graph import Graph
from beans_exp.paths import user_path
from beans_exp.regularization import dropout, kernel_regularizer
from beans_exp.schema import Config, ModelConfig, RegConfig
from beans_exp.schema.names import BLOCKS
from beans_exp.weights import WAY_OUT

AUX_BLOCK = "mixed7"
HEAD = ("pooling", "dropout1", "dense", "dropout2", "logits")
"""The layers on the base, those that a head has, in order."""


def build_inception(config: Config, classes: int) -> keras.Model:
    """Return Inception-v3 with a head of Dense 1024 and Dense `classes`: 23,904,035 parameters with three classes.

    A pre-trained base stays in inference mode in every stage; a random one is trained whole. Raises DataError for
    a weights file that does not fit.
    """
    size = config.data.image_size
    base = _base(config.model, size)
    if not config.model.pretrained:
        _penalise(base, config.reg)
    inputs = keras.Input((size, size, 3), name="image")
    x = layers.Rescaling(1 / 127.5, offset=-1, name="rescaling")(inputs)
    x = base(x)
    for layer in _head(config, classes):
        x = layer(x)
    return keras.Model(inputs, x, name="inception")


class InferenceModel(keras.Model):
    """A functional model that is in inference mode always, so that BatchNorm keeps its statistics.

    `base(x, training=False)` is not enough: Keras 3.15 gives an outer model's `training=True` to every inner one.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        return super().call(inputs, training=False, mask=mask)


def savable(model: keras.Model) -> keras.Model:
    """Return `model` on the same layers, made of Keras' own classes alone, so that it loads without this project."""
    base = model.get_layer("base")
    x = keras.Model(base.input, base.output, name="base")(model.get_layer("rescaling").output, training=False)
    for layer in head_layers(model):
        x = layer(x)
    return keras.Model(model.input, x, name=model.name)


def head_layers(model: keras.Model) -> list[keras.Layer]:
    """The layers on the base, in order."""
    return [layer for layer in model.layers if layer.name in HEAD]


def _base(model: ModelConfig, size: int) -> keras.Model:
    """The base up to its top block, with its weights."""
    weights = model.weights
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # Keras only warns of layers that a file does not have
            whole = keras.applications.InceptionV3(
                include_top=False,
                weights=str(user_path(str(weights))) if weights not in (None, "imagenet") else weights,
                input_shape=(size, size, 3),
            )
    except (ValueError, OSError, KeyError, UserWarning) as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise DataError(f"model.weights: {weights} does not fit Inception-v3 ({reason}). {WAY_OUT}") from error
    speed_up_kernel_gradients(whole)
    if model.pretrained:
        fold_batch_norm(whole)
    kind = InferenceModel if model.pretrained else keras.Model
    return kind(inputs=whole.input, outputs=whole.get_layer(model.top_block).output, name="base")


def _penalise(base: keras.Model, reg: RegConfig) -> None:
    """Put the L1 or L2 penalty on every convolution kernel, as on those of the other models from scratch."""
    for layer in base.layers:
        if isinstance(layer, layers.Conv2D):
            penalty = kernel_regularizer(reg)
            layer.kernel_regularizer = penalty  # what is saved
            layer.kernel.regularizer = penalty  # what counts


def _head(config: Config, classes: int) -> list[keras.Layer]:
    """New layers for `HEAD`; L1 and L2 lie on its Dense kernels where the base is pre-trained."""
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
    """Where frozen layers end and trained ones begin; `name` is `image`, `stem`, a block, or `pooling`."""

    name: str

    @classmethod
    def bottom_up(cls, model: ModelConfig) -> "list[Cut]":
        """Every cut of the base, from the raw images to the pooled output of `model.top_block`."""
        top = BLOCKS.index(str(model.top_block))
        return [cls(name) for name in ("image", "stem", *BLOCKS[:top], "pooling")]

    @classmethod
    def below(cls, model: ModelConfig, blocks: int) -> "Cut":
        """The cut under the top `blocks` blocks, counted down from `model.top_block`; the stem is the last one."""
        return cls.bottom_up(model)[-1 - blocks]


def cut_layer(base: keras.Model, cut: Cut) -> keras.Layer:
    """The last frozen layer of `base` for `cut`."""
    if cut.name == "image":
        return base.layers[0]
    if cut.name == "stem":
        return [layer for layer in base.layers if isinstance(layer, layers.MaxPooling2D)][1]
    return base.layers[-1] if cut.name == "pooling" else base.get_layer(cut.name)


def unfreeze_above(model: keras.Model, cut: Cut) -> None:
    """Make the layers of the base above `cut` trainable, whole blocks, and those below it not."""
    base = model.get_layer("base")
    below = keras.Model(base.input, cut_layer(base, cut).output).layers
    for layer in base.layers:  # each one: setting the base's own flag does not reach them
        layer.trainable = layer not in below


def between(model: keras.Model, below: Cut, above: Cut) -> keras.Model:
    """Return the part of the frozen base from the activations at `below` (or raw images) to those at `above`."""
    inputs, x = _start(model, below)
    base = model.get_layer("base")
    x = _part(base, below, [cut_layer(base, above).output])(x)[0]
    return keras.Model(inputs, model.get_layer("pooling")(x) if above.name == "pooling" else x)


def graph_above(model: keras.Model, cut: Cut, reg: RegConfig, auxiliary: bool) -> Graph:
    """Return the network above `cut`: the rest of the base, the head, and where asked for an auxiliary classifier.

    The classifier sits on `mixed7` and is new: average pooling 5x5 stride 3, convolutions 1x1 to 128 and 5x5 to 768,
    and a Dense layer. L1 and L2 lie on its kernels only where they lie on those of the base.
    """
    reg = RegConfig() if isinstance(model.get_layer("base"), InferenceModel) else reg
    inputs, x = _start(model, cut)
    base, others = model.get_layer("base"), []
    if cut.name != "pooling":
        outputs = [base.output, base.get_layer(AUX_BLOCK).output] if auxiliary else [base.output]
        x, *taps = _part(base, cut, outputs)(x)
        others = [_auxiliary(tap, model.output.shape[-1], reg) for tap in taps]
    for layer in head_layers(model):
        if cut.name != "pooling" or layer.name != "pooling":
            x = layer(x)
    return Graph(inputs, x, others)


def _start(model: keras.Model, cut: Cut) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """The input of a part that starts at `cut`, and the tensor that goes on from there."""
    if cut.name == "image":
        return model.input, model.get_layer("rescaling").output
    layer = model.get_layer("pooling") if cut.name == "pooling" else cut_layer(model.get_layer("base"), cut)
    activations = keras.Input(layer.output.shape[1:], dtype=layer.compute_dtype, name="activations")
    return activations, activations


def _part(base: keras.Model, cut: Cut, outputs: list[keras.KerasTensor]) -> keras.Model:
    """The layers of `base` from `cut` to `outputs`, in the mode that the base is in."""
    return type(base)(inputs=cut_layer(base, cut).output, outputs=outputs, name="part")


def _auxiliary(x: keras.KerasTensor, classes: int, reg: RegConfig) -> keras.KerasTensor:
    x = layers.AveragePooling2D(5, strides=3, name="aux_pooling")(x)
    x = layers.Conv2D(128, 1, activation="relu", kernel_regularizer=kernel_regularizer(reg), name="aux_conv1")(x)
    x = layers.Conv2D(768, 5, activation="relu", kernel_regularizer=kernel_regularizer(reg), name="aux_conv2")(x)
    x = layers.Flatten(name="aux_flatten")(x)
    return layers.Dense(classes, dtype="float32", name="aux_logits")(x)
