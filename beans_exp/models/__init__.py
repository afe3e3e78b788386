"""From a configuration to an uncompiled Keras model: raw images 0..255 in, float32 logits out."""

import keras

from beans_exp.models.lenet import build_lenet
from beans_exp.models.lenet5 import build_lenet5
from beans_exp.schema import Config

ARCHITECTURES = {"lenet": build_lenet, "lenet5": build_lenet5}


def build_model(config: Config, classes: int) -> keras.Model:
    """Return the model that `config` names for `classes` classes; weights follow from Keras' global seed.

    Input float32 (b, S, S, 3) with S = `data.image_size`; output logits float32 (b, classes).
    """
    return ARCHITECTURES[config.model.name](config, classes)
