"""From a configuration to an uncompiled Keras model: raw images 0..255 in, float32 logits out."""

import keras

from beans_exp.models import googlenet, inception
from beans_exp.models.graph import Graph
from beans_exp.models.lenet import build_lenet
from beans_exp.models.lenet5 import build_lenet5
from beans_exp.schema import Config

ARCHITECTURES = {
    "lenet": build_lenet,
    "lenet5": build_lenet5,
    "inception": inception.build_inception,
    "googlenet": googlenet.build_googlenet,
}


def build_model(config: Config, classes: int) -> keras.Model:
    """Return the model that `config` names for `classes` classes; weights follow from Keras' global seed.

    Input float32 (b, S, S, 3) with S = `data.image_size`; output logits float32 (b, classes). Raises DataError for
    pre-trained weights that do not fit.
    """
    return ARCHITECTURES[config.model.name](config, classes)


def training_graph(model: keras.Model, config: Config, blocks: int, cached: bool) -> Graph:
    """Return what a stage fits that trains the top `blocks` blocks: from images, or from activations that are `cached`.

    `reg.aux_weight` adds auxiliary classifiers; on a pre-trained base they act only where blocks are trained.
    """
    if config.model.name == "googlenet" and config.reg.aux_weight:
        return googlenet.graph_with_auxiliary(model, config.reg)
    auxiliary = bool(config.reg.aux_weight) and (blocks > 0 or not config.model.pretrained)
    if config.model.name == "inception" and (cached or auxiliary):
        cut = inception.Cut.below(config.model, blocks) if cached else inception.Cut("image")
        return inception.graph_above(model, cut, config.reg, auxiliary)
    return Graph(model.input, model.output)


def savable_model(model: keras.Model) -> keras.Model:
    """Return `model` uncompiled, on the same layers: without its optimizer, a third of the size, loadable as is."""
    if model.name == "inception":
        return inception.savable(model)
    return keras.Model(model.input, model.output, name=model.name)


def head_layers(model: keras.Model) -> list[keras.Layer]:
    """The layers of a pre-trained `model` that its first stage trains."""
    return inception.head_layers(model)


def set_trainable(model: keras.Model, config: Config, blocks: int) -> None:
    """Make trainable what a stage trains: the head and the top `blocks` blocks of a pre-trained base, else all."""
    if config.model.pretrained:
        inception.unfreeze_above(model, inception.Cut.below(config.model, blocks))
