"""Inception-v3 (arXiv 1512.00567) with a new head, and an optional auxiliary classifier for its training."""

import warnings
from dataclasses import replace

import keras
from keras import layers

from beans_exp.errors import DataError
from beans_exp.files import user_path
from beans_exp.models.backbone import Cut, InferenceModel, graph_above, new_head
from beans_exp.models.cpu import speed_up
from beans_exp.models.graph import Graph
from beans_exp.models.regularization import kernel_regularizer
from beans_exp.models.weights import HINT
from beans_exp.schema import Config, ModelConfig, RegConfig

AUX_BLOCK = "mixed7"


def build_inception(config: Config, classes: int) -> keras.Model:
    """Return Inception-v3 with a head of Dense 1024 and Dense `classes`: 23,904,035 parameters with three classes.

    A pre-trained base stays in inference mode in every stage; a random one is trained in full. Raises DataError for a
    weights file that does not fit.
    """
    size = config.data.image_size
    base = _base(config.model, size)
    if not config.model.pretrained:
        _penalise(base, config.reg)
    inputs = keras.Input((size, size, 3), name="image")
    x = layers.Rescaling(1 / 127.5, offset=-1, name="rescaling")(inputs)
    x = base(x)
    for layer in new_head(config, classes):
        x = layer(x)
    return keras.Model(inputs, x, name="inception")


def _base(model: ModelConfig, size: int) -> keras.Model:
    """The base up to its top block, with its weights."""
    weights = model.weights
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # Keras only warns about layers that are missing in a file
            full = keras.applications.InceptionV3(
                include_top=False,
                weights=str(user_path(str(weights))) if weights not in (None, "imagenet") else weights,
                input_shape=(size, size, 3),
            )
    except (ValueError, OSError, KeyError, UserWarning) as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise DataError(f"model.weights: {weights} does not fit Inception-v3 ({reason}). {HINT}") from error
    speed_up(full, is_frozen=model.pretrained)
    kind = InferenceModel if model.pretrained else keras.Model
    return kind(inputs=full.input, outputs=full.get_layer(model.top_block).output, name="base")


def _penalise(base: keras.Model, reg: RegConfig) -> None:
    """Put the L1 or L2 penalty on every convolution kernel, as in the other models trained from scratch."""
    for layer in base.layers:
        if isinstance(layer, layers.Conv2D):
            penalty = kernel_regularizer(reg)
            layer.kernel_regularizer = penalty  # is saved with the model
            layer.kernel.regularizer = penalty  # is added to the loss


def training_graph(model: keras.Model, config: Config, blocks: int, cached: bool, auxiliary: bool) -> Graph:
    """Return the graph of a stage that trains the top `blocks` blocks, from images or from `cached` activations.

    With `auxiliary`, a new auxiliary classifier is attached to `mixed7`: average pooling 5x5 stride 3, convolutions 1x1
    to 128 and 5x5 to 768, and a Dense layer. L1 and L2 apply to its kernels only if they apply to those of the base.
    """
    cut = Cut.below(config.model, blocks) if cached else Cut("image")
    graph, tap = graph_above(model, cut, AUX_BLOCK if auxiliary else None)
    if tap is None:
        return graph
    reg = RegConfig() if config.model.pretrained else config.reg
    return replace(graph, auxiliary=[_auxiliary(tap, model.output.shape[-1], reg)])


def _auxiliary(x: keras.KerasTensor, classes: int, reg: RegConfig) -> keras.KerasTensor:
    x = layers.AveragePooling2D(5, strides=3, name="aux_pooling")(x)
    x = layers.Conv2D(128, 1, activation="relu", kernel_regularizer=kernel_regularizer(reg), name="aux_conv1")(x)
    x = layers.Conv2D(768, 5, activation="relu", kernel_regularizer=kernel_regularizer(reg), name="aux_conv2")(x)
    x = layers.Flatten(name="aux_flatten")(x)
    return layers.Dense(classes, dtype="float32", name="aux_logits")(x)
