"""Where a run stands, on disk: written whole at an epoch's end, so that a killed run goes on from there."""

import json
import logging
import os
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

log = logging.getLogger("beans_exp")

SHARE = 0.01
"""The part of training that checkpoints may cost."""
LONGEST = 120.0
"""Seconds after which an epoch's end is kept whatever it costs: what a killed run loses at most, but for one epoch."""
PARTS = ("model", "fitted", "optimizer", "best")
ASSUMED_SPEED = 4e8
"""Bytes a second, until the first checkpoint is measured."""


@dataclass(frozen=True)
class State:
    """Where training stands after an epoch: what `training` needs to go on as if nothing had happened."""

    stage: int
    """The number of the stage that the last epoch belongs to."""
    stage_best: float
    stalled: int
    epochs: list[dict[str, float]]
    """The metrics of every epoch so far."""
    features_costs: dict[str, float]
    arrays: dict[str, list[np.ndarray]]
    """Variables by the `PARTS` that they belong to; `best` are the best weights so far."""
    head_run: str = ""
    """The run that trained the head, where that was not trained here."""


@dataclass
class Checkpoints:
    """The checkpoint file of one run."""

    file: Path
    fingerprint: str
    run_id: str = ""
    seconds: float = 0.0
    """What the run took in the processes before this one."""
    after_save: Callable[[], None] = lambda: None
    state: State | None = None
    """What was found on disk, until training has taken it."""
    works: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        self.began = self.last = time.monotonic()
        self.cost = 0.0

    @classmethod
    def read(cls, file: Path, fingerprint: str) -> "Checkpoints":
        """Return the checkpoint in `file`, without a state where there is none for `fingerprint` or it is damaged."""
        try:
            with file.open("rb") as stream, np.load(stream, allow_pickle=False) as content:
                facts = json.loads(str(content["facts"]))
                names = [name.partition(".")[0] for name in content.files if "." in name]
                arrays = {name: [content[f"{name}.{i}"] for i in range(names.count(name))] for name in PARTS}
            if facts.pop("fingerprint") != fingerprint:
                return cls(file, fingerprint)
            run_id, seconds = facts.pop("run_id"), facts.pop("seconds")
            return cls(file, fingerprint, run_id, seconds, state=State(**facts, arrays=arrays))
        except FileNotFoundError:
            pass
        except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            log.warning("the checkpoint %s is damaged (%s): training starts anew", file, error)
        return cls(file, fingerprint)

    def begin(self, run_id: str, after_save: Callable[[], None]) -> None:
        """Keep the states of `run_id` from now on; `after_save` is called when one is on disk."""
        self.run_id = run_id
        self.after_save = after_save

    def take(self) -> State | None:
        """Hand over the state that was found, once: its arrays are not kept in memory."""
        state, self.state = self.state, None
        return state

    @property
    def total_seconds(self) -> float:
        """What the run took so far, in all of its processes."""
        return self.seconds + time.monotonic() - self.began

    def due(self, size: int) -> bool:
        """Whether the end of this epoch is kept, if that writes `size` bytes."""
        cost = self.cost or size / ASSUMED_SPEED
        return self.works and time.monotonic() - self.last >= min(cost / SHARE, LONGEST)

    def save(self, state: State) -> None:
        """Write `state` in place of the one before; a disk that cannot take it ends checkpoints, not the run."""
        started = time.monotonic()
        facts = {key: value for key, value in vars(state).items() if key != "arrays"}
        facts |= {"fingerprint": self.fingerprint, "run_id": self.run_id, "seconds": self.total_seconds}
        try:
            self._write(facts, state.arrays)
        except OSError as error:
            log.warning("%s cannot be written (%s): what it would keep may be trained again", self.file, error)
            self.works = False
        self.last = time.monotonic()
        self.cost = self.last - started
        self.after_save()

    def _write(self, facts: dict[str, Any], arrays: dict[str, list[np.ndarray]]) -> None:
        unfinished = self.file.with_suffix(".unfinished")
        named: dict[str, Any] = {f"{name}.{i}": array for name, many in arrays.items() for i, array in enumerate(many)}
        try:
            with unfinished.open("wb") as stream:
                np.savez(stream, facts=np.array(json.dumps(facts)), **named)
                stream.flush()
                os.fsync(stream.fileno())
            unfinished.replace(self.file)
        finally:
            unfinished.unlink(missing_ok=True)

    @contextmanager
    def removed_unless_killed(self) -> Iterator[None]:
        """Remove the file when the block has ended, well or with an error: only a killed run is gone on with."""
        try:
            yield
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:
            self.file.unlink(missing_ok=True)
            raise
        self.file.unlink(missing_ok=True)
