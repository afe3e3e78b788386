"""Models that a test session builds once and resets for each use: building Inception-v3 takes seconds."""

import gc
from dataclasses import replace

import keras
import numpy as np
import pytest

from beans_exp.models import build_model
from beans_exp.schema import Config
from beans_exp.training.stages import configure

_built: dict[str, tuple[keras.Model, list[np.ndarray]]] = {}


@pytest.fixture(scope="session", autouse=True)
def fast_collections() -> None:
    """Exclude the imported libraries from garbage collection, which `configure` runs each time."""
    gc.collect()
    gc.freeze()


def configured_model(config: Config) -> keras.Model:
    """Configure Keras for `config` and return its model for three classes, as `build_model` would build it now."""
    configure(config)
    reg = replace(config.reg, name="", augment=[], label_smoothing=0.0)  # as far as it acts in a model
    key = repr((config.seed, config.model, reg, config.kernel, config.data.image_size, config.trainer.precision))
    if key not in _built:
        model = build_model(config, 3)
        _built[key] = model, [np.array(variable.numpy()) for variable in model.variables]
        gc.collect()
        gc.freeze()
    model, initial = _built[key]
    for variable, value in zip(model.variables, initial, strict=True):
        variable.assign(value)
    return model
