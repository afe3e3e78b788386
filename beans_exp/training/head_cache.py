"""Heads trained once: what an equal first stage left, for every run that tunes from it.

A head lies beside the activations that it was trained on, in `features.dir`: it is the checkpoint of a first stage's
end, without the frozen base, and is named by what decides it.
"""

import logging
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np
from filelock import FileLock

from beans_exp.data import Data
from beans_exp.data.prepared import PREPARED_VERSION
from beans_exp.data.source import text_digest
from beans_exp.fingerprint import head_fingerprint
from beans_exp.models import head_layers
from beans_exp.schema import Config
from beans_exp.training.checkpoint import Checkpoints, State
from beans_exp.training.feature_cache import FEATURES_VERSION, HEAD, features_folder, make_room

HEADS_VERSION = 1
"""Raised by hand when what a head's file holds changes."""

log = logging.getLogger("beans_exp")


@dataclass(frozen=True)
class CachedHead:
    """The head that the first stage of a run gives, on disk."""

    file: Path
    fingerprint: str
    is_wanted: bool
    """Whether the run takes a head that is there: it tunes, and nothing asks it to train everything anew."""
    max_gb: float

    @classmethod
    def of(cls, config: Config, data: Data) -> "CachedHead | None":
        """Return it for a run whose first stage trains a head alone; None for others, and where nothing is cached."""
        if not (config.model.pretrained and config.trainer.epochs) or config.features.cache == "off":
            return None
        versions = (HEADS_VERSION, FEATURES_VERSION, PREPARED_VERSION)
        fingerprint = text_digest((*versions, head_fingerprint(config, data.source)))[:16]
        wanted = config.finetune.blocks > 0 and config.if_exists != "rerun"
        try:
            file = features_folder(config) / HEAD.format(fingerprint)
        except OSError:  # a warning of `features`
            return None
        return cls(file, fingerprint, wanted, config.features.max_gb)

    def read(self, model: keras.Model) -> State | None:
        """Return where `model` stands with this head, as after its own first stage; None where it has to be trained."""
        if not self.is_wanted:
            return None
        kept = Checkpoints.read(self.file, self.fingerprint)
        state = kept.take()
        if state is None:
            return None
        with suppress(OSError):  # another process makes room at this moment
            os.utime(self.file)  # the most recently used
        log.info("the head of run %s is taken: its first stage was the same", kept.run_id)
        last, best = state.arrays["model"], state.arrays["best"]
        whole = {"model": _with_base(model, model.variables, last), "best": _with_base(model, model.weights, best)}
        return replace(state, head_run=kept.run_id, arrays=whole)

    def keep(self, model: keras.Model, state: State, run_id: str) -> None:
        """Write the head in `state`, where `model` stands at the end of the first stage of `run_id`."""
        last, best = state.arrays["model"], state.arrays["best"]
        head = {"model": _head_of(model, model.variables, last), "best": _head_of(model, model.weights, best)}
        try:
            with FileLock(f"{self.file}.lock"):
                Checkpoints(self.file, self.fingerprint, run_id).save(replace(state, arrays=head))
            make_room(self.file.parent, self.max_gb, keep=self.file)
        except OSError as error:
            log.warning("the head is not kept (%s): each run trains its own", error)


def _in_head(model: keras.Model, variables: Iterable[keras.Variable]) -> list[bool]:
    head = {id(variable) for layer in head_layers(model) for variable in layer.variables}
    return [id(variable) in head for variable in variables]


def _head_of(model: keras.Model, variables: list[keras.Variable], arrays: list[np.ndarray]) -> list[np.ndarray]:
    """Those of `arrays`, the values of `variables`, that belong to the head; none where there are none."""
    return [array for array, is_head in zip(arrays, _in_head(model, variables), strict=False) if is_head]


def _with_base(model: keras.Model, variables: list[keras.Variable], head: list[np.ndarray]) -> list[np.ndarray]:
    """The values of `variables` with those of the head replaced by `head`; none where there are none."""
    values = iter(head)
    places = zip(variables, _in_head(model, variables), strict=True) if head else ()
    return [next(values) if is_head else np.asarray(variable) for variable, is_head in places]
