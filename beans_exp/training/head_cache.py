"""Heads that are trained once: the result of a first stage, reused by every run with an equal first stage.

A head is stored beside the activations that it was trained on, in `features.dir`. The file is a checkpoint of the end
of the first stage, without the frozen base, and is named by the hash of everything that determines it.
"""

import logging
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np

from beans_exp.data import Data
from beans_exp.data.prepared import PREPARED_VERSION
from beans_exp.data.source import text_digest
from beans_exp.fingerprint import head_fingerprint
from beans_exp.locks import locked
from beans_exp.models import head_layers
from beans_exp.schema import Config
from beans_exp.training.checkpoint import Checkpoints, TrainingState
from beans_exp.training.feature_cache import FEATURES_VERSION, HEAD, features_folder, make_room

log = logging.getLogger("beans_exp")


@dataclass(frozen=True)
class CachedHead:
    """The head that the first stage of a run trains, on disk."""

    file: Path
    fingerprint: str
    may_reuse: bool
    """Whether the run may use an existing head: it has a second stage, and if_exists=rerun was not requested."""
    max_gb: float

    @classmethod
    def for_run(cls, config: Config, data: Data) -> "CachedHead | None":
        """Return the head of a run whose first stage trains only a head; None for other runs and without a cache."""
        if not (config.model.pretrained and config.trainer.epochs) or config.features.cache == "off":
            return None
        versions = (FEATURES_VERSION, PREPARED_VERSION)
        fingerprint = text_digest((*versions, head_fingerprint(config, data.source)))[:16]
        may_reuse = config.finetune.blocks > 0 and config.if_exists != "rerun"
        try:
            file = features_folder(config) / HEAD.format(fingerprint)
        except OSError:  # `frozen_features` logs a warning
            return None
        return cls(file, fingerprint, may_reuse, config.features.max_gb)

    def load(self, model: keras.Model) -> TrainingState | None:
        """Return the state of training `model` after its first stage, or None if the head has to be trained."""
        if not self.may_reuse:
            return None
        checkpoints = Checkpoints.read(self.file, self.fingerprint)
        state = checkpoints.take()
        if state is None:
            return None
        with suppress(OSError):  # another process may be making room
            os.utime(self.file)  # marks it as the most recently used
        log.info("reusing the head trained by run %s (same first stage)", checkpoints.run_id)
        last, best = state.arrays["model"], state.arrays["best"]
        arrays = {"model": _with_base(model, model.variables, last), "best": _with_base(model, model.weights, best)}
        return replace(state, head_run=checkpoints.run_id, arrays=arrays)

    def save(self, model: keras.Model, state: TrainingState, run_id: str) -> None:
        """Write the head in `state`, the state of `model` at the end of the first stage of `run_id`."""
        last, best = state.arrays["model"], state.arrays["best"]
        head = {"model": _head_of(model, model.variables, last), "best": _head_of(model, model.weights, best)}
        try:
            with locked(self.file.with_name(f"{self.file.name}.lock"), "is writing the same head"):
                Checkpoints(self.file, self.fingerprint, run_id).save(replace(state, arrays=head))
            make_room(self.file.parent, self.max_gb, keep=self.file)
        except OSError as error:
            log.warning("the head is not cached (%s): each run trains its own", error)


def _in_head(model: keras.Model, variables: Iterable[keras.Variable]) -> list[bool]:
    head = {id(variable) for layer in head_layers(model) for variable in layer.variables}
    return [id(variable) in head for variable in variables]


def _head_of(model: keras.Model, variables: list[keras.Variable], arrays: list[np.ndarray]) -> list[np.ndarray]:
    """The members of `arrays`, the values of `variables`, that belong to the head; `arrays` may be empty."""
    return [array for array, is_head in zip(arrays, _in_head(model, variables), strict=False) if is_head]


def _with_base(model: keras.Model, variables: list[keras.Variable], head: list[np.ndarray]) -> list[np.ndarray]:
    """The values of `variables`, with those of the head replaced by `head`; empty if `head` is."""
    values = iter(head)
    pairs = zip(variables, _in_head(model, variables), strict=True) if head else ()
    return [next(values) if is_head else np.asarray(variable) for variable, is_head in pairs]
