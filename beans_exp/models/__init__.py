"""From a configuration to an uncompiled Keras model: raw images 0..255 in, float32 logits out.

Keras is imported by the functions: the parent of a sweep reads `models.weights` without it.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from beans_exp.schema import Config

if TYPE_CHECKING:
    import keras

    from beans_exp.models.graph import Graph


def _architectures() -> "dict[str, Callable[[Config, int], keras.Model]]":
    from beans_exp.models.googlenet import build_googlenet
    from beans_exp.models.inception import build_inception
    from beans_exp.models.lenet import build_lenet
    from beans_exp.models.lenet5 import build_lenet5

    return {"lenet": build_lenet, "lenet5": build_lenet5, "inception": build_inception, "googlenet": build_googlenet}


def build_model(config: Config, classes: int) -> "keras.Model":
    """Return the model that `config` names for `classes` classes; weights follow from Keras' global seed.

    Input float32 (b, S, S, 3) with S = `data.image_size`; output logits float32 (b, classes). Raises DataError for
    pre-trained weights that do not fit.
    """
    return _architectures()[config.model.name](config, classes)


def training_graph(model: "keras.Model", config: Config, blocks: int, cached: bool) -> "Graph":
    """Return what a stage fits that trains the top `blocks` blocks: from images, or from activations that are `cached`.

    `reg.aux_weight` adds auxiliary classifiers; on a pre-trained base they act only where blocks are trained.
    """
    from beans_exp.models import googlenet, inception
    from beans_exp.models.graph import Graph

    if config.model.name == "googlenet" and config.reg.aux_weight:
        return googlenet.graph_with_auxiliary(model, config.reg)
    auxiliary = bool(config.reg.aux_weight) and (blocks > 0 or not config.model.pretrained)
    if config.model.name == "inception" and (cached or auxiliary):
        return inception.training_graph(model, config, blocks, cached, auxiliary)
    return Graph(model.input, model.output)


def savable_model(model: "keras.Model") -> "keras.Model":
    """Return `model` uncompiled, on the same layers: without its optimizer, a third of the size, loadable as is."""
    import keras

    from beans_exp.models.backbone import savable

    if model.name == "inception":
        return savable(model)
    return keras.Model(model.input, model.output, name=model.name)


def head_layers(model: "keras.Model") -> "list[keras.Layer]":
    """The layers of a pre-trained `model` that its first stage trains."""
    from beans_exp.models import backbone

    return backbone.head_layers(model)


def set_trainable(model: "keras.Model", config: Config, blocks: int) -> None:
    """Make trainable what a stage trains: the head and the top `blocks` blocks of a pre-trained base, else all."""
    if config.model.pretrained:
        from beans_exp.models.backbone import Cut, unfreeze_above

        unfreeze_above(model, Cut.below(config.model, blocks))
