"""Auxiliary classifiers: further outputs of a model's function, new in each stage, trained but never saved."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import keras

from beans_exp.errors import ConfigError
from beans_exp.models.graph import call_of, tensors_below


@contextmanager
def without_drawing() -> Iterator[None]:
    """Leave the random numbers of layers that are built later as they are without the layers built here."""
    state = random.getstate()
    try:
        yield
    finally:
        random.setstate(state)


def tap_of(main: keras.KerasTensor, output: keras.KerasTensor) -> keras.KerasTensor:
    """Return the tensor below `main` that the auxiliary classifier with this `output` sits on.

    Raises ConfigError for a classifier that sits on several.
    """
    below, taps, pending = tensors_below([main]), {}, [output]
    while pending:
        tensor = pending.pop()
        if id(tensor) in below:
            taps[id(tensor)] = tensor
        else:
            pending += call_of(tensor).input_tensors
    if len(taps) != 1:
        raise ConfigError(f"model.build: each auxiliary classifier must sit on one layer, not on {len(taps)}")
    return next(iter(taps.values()))


def attach(output: keras.KerasTensor, tap: keras.KerasTensor, onto: keras.KerasTensor) -> keras.KerasTensor:
    """Return the output of a new copy of the layers between `tap` and `output`, on the tensor `onto`."""
    return keras.models.clone_model(keras.Model(tap, output, name=f"aux_{output.name}"))(onto)
