"""Uncompiled Keras models from a configuration: raw images 0..255 in, float32 logits out.

The functions import Keras themselves, because the parent process of a sweep reads `models.weights` without it.
"""

from typing import TYPE_CHECKING

from beans_exp.schema import Config

if TYPE_CHECKING:
    import keras

    from beans_exp.models.graph import Graph

FIRST = ("lenet", "inception", "googlenet", "lenet5")
"""Where models are listed, these come first, the others after them by name."""


def build_model(config: Config, classes: int) -> "keras.Model":
    """Return the model that `config` names for `classes` classes; its weights depend on Keras' global seed.

    Input float32 (b, S, S, 3) with S = `data.image_size`; output logits float32 (b, classes). Raises DataError for
    pre-trained weights that do not fit, ConfigError for a function that fails or returns something else.
    """
    from beans_exp.models.build import build

    return build(config, classes)


def training_graph(model: "keras.Model", config: Config, blocks: int, cached: bool) -> "Graph":
    """Return the graph of a stage that trains the top `blocks` blocks, from images or from `cached` activations.

    `reg.aux_weight` adds auxiliary classifiers, on a pre-trained base only if blocks are trained.
    """
    from beans_exp.models.auxiliary import attach, tap_of
    from beans_exp.models.backbone import Cut, graph_above
    from beans_exp.models.graph import Graph

    auxiliary = bool(config.reg.aux_weight) and (blocks > 0 or not config.model.pretrained)
    if config.model.is_base and (cached or auxiliary):
        return graph_above(model, Cut.below(model, blocks) if cached else Cut("image"), auxiliary=auxiliary)
    taps = [(output, tap_of(model.output, output)) for output in (model.auxiliary_outputs if auxiliary else ())]
    return Graph(model.input, model.output, [attach(output, tap, tap) for output, tap in taps])


def savable_model(model: "keras.Model") -> "keras.Model":
    """Return `model` uncompiled, with shared layers: a third of the size, and loadable without this project."""
    import keras

    from beans_exp.models import backbone

    if backbone.has_base(model):
        return backbone.savable(model)
    return keras.Model(model.input, model.output, name=model.name)


def head_layers(model: "keras.Model") -> "list[keras.Layer]":
    """Return the layers of a pre-trained `model` that its first stage trains."""
    from beans_exp.models import backbone

    return backbone.head_layers(model)


def set_trainable(model: "keras.Model", config: Config, blocks: int) -> None:
    """Make the layers of a stage trainable: the head and the top `blocks` blocks of a pre-trained base, or else all."""
    if config.model.pretrained:
        from beans_exp.models.backbone import Cut, unfreeze_above

        unfreeze_above(model, Cut.below(model, blocks))
