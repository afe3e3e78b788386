"""Checkpoints: the state of training, written at the end of an epoch so that a killed run can resume."""

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from beans_exp.files import FormatError, open_checked, remove, write_checked

log = logging.getLogger("beans_exp")

FORMAT = 2
"""Raised by hand when the content of a checkpoint file changes; files without a format have format 1."""
COST_SHARE = 0.01
"""The fraction of the training time that checkpoints may take."""
LONGEST = 120.0
"""Seconds after which a checkpoint is due at any cost: a killed run loses these and one epoch at most."""
ASSUMED_SPEED = 4e8
"""Bytes written per second, until the first checkpoint is measured."""
VARIABLE_GROUPS = ("model", "fitted", "optimizer", "best")


@dataclass(frozen=True)
class TrainingState:
    """Everything that training needs to resume after an epoch as if it had not been interrupted."""

    stage: int
    """The number of the stage of the last epoch."""
    stage_best: float
    """The highest validation accuracy of that stage."""
    stalled: int
    """Epochs of that stage since then."""
    epochs: list[dict[str, float]]
    """The metrics of every epoch so far."""
    features_costs: dict[str, float]
    arrays: dict[str, list[np.ndarray]]
    """The values of the variables by their `VARIABLE_GROUPS`; `best` holds the best weights so far."""
    head_run: str = ""
    """The run that trained the head, if it was another one."""


@dataclass
class SaveSchedule:
    """Decides when a checkpoint is due: as often as `COST_SHARE` allows, but at least every `LONGEST` seconds."""

    last_end: float
    cost: float = 0.0
    """Seconds that the last checkpoint took; 0 before the first one."""

    def is_due(self, now: float, size: int) -> bool:
        """Whether a checkpoint of `size` bytes is due at the time `now`."""
        cost = self.cost or size / ASSUMED_SPEED
        return now - self.last_end >= min(cost / COST_SHARE, LONGEST)

    def record(self, begin: float, end: float) -> None:
        """Record a checkpoint that was written from `begin` to `end`."""
        self.last_end, self.cost = end, end - begin


@dataclass
class Checkpoints:
    """The checkpoint file of one run."""

    file: Path
    fingerprint: str
    run_id: str = ""
    seconds: float = 0.0
    """Duration of the run in earlier processes."""
    after_save: Callable[[], None] = lambda: None
    state: TrainingState | None = None
    """The state found on disk, until training takes it."""
    warned: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.started = time.monotonic()
        self.schedule = SaveSchedule(self.started)

    @classmethod
    def read(cls, file: Path, fingerprint: str) -> "Checkpoints":
        """Return the checkpoint in `file`, without a state unless it is one of `fingerprint`.

        A file that is damaged, or was written by another version, is removed with a warning.
        """
        try:
            facts, arrays = _read(file)
            if facts.pop("fingerprint") == fingerprint:
                run_id, seconds = facts.pop("run_id"), facts.pop("seconds")
                return cls(file, fingerprint, run_id, seconds, state=TrainingState(**facts, arrays=arrays))
        except FileNotFoundError:
            pass
        except FormatError as error:
            _discard(file, str(error))
        except OSError as error:
            log.warning("%s cannot be read (%s): its epochs are trained again", file, error)
        except MemoryError:
            raise
        except Exception as error:  # whatever NumPy and `json` raise for a damaged file of a version without checksums
            _discard(file, f"is damaged ({error})")
        return cls(file, fingerprint)

    def begin(self, run_id: str, after_save: Callable[[], None]) -> None:
        """Save states as those of `run_id` from now on; `after_save` is called whenever one is on disk."""
        self.run_id = run_id
        self.after_save = after_save

    def take(self) -> TrainingState | None:
        """Return the state that was found, once: its arrays are not kept in memory."""
        state, self.state = self.state, None
        return state

    @property
    def total_seconds(self) -> float:
        """Duration of the run so far, in all of its processes."""
        return self.seconds + time.monotonic() - self.started

    def is_due(self, size: int) -> bool:
        """Whether a checkpoint of `size` bytes is due at the end of this epoch."""
        return self.schedule.is_due(time.monotonic(), size)

    def save(self, state: TrainingState) -> None:
        """Replace the file with `state`; if writing fails, a warning says so, and the next one is tried when it is due.

        `after_save` is not called then: epochs are sent once a checkpoint or the end of the run covers them.
        """
        begin = time.monotonic()
        facts = {key: value for key, value in vars(state).items() if key != "arrays"}
        facts |= {"format": FORMAT, "fingerprint": self.fingerprint}
        facts |= {"run_id": self.run_id, "seconds": self.total_seconds}
        try:
            _write(self.file, facts, state.arrays)
        except OSError as error:
            if not self.warned:
                log.warning("%s cannot be written (%s): its epochs may have to be trained again", self.file, error)
            self.warned = True
        else:
            self.after_save()
        self.schedule.record(begin, time.monotonic())

    @contextmanager
    def removed_at_result(self, is_result: Callable[[BaseException], bool]) -> Iterator[None]:
        """Delete the checkpoint once the run has a result; after other errors the same command resumes it."""
        try:
            yield
        except BaseException as error:
            if is_result(error):
                self.remove()
            raise
        self.remove()

    def remove(self) -> None:
        """Delete the file, which no run needs any more."""
        with suppress(OSError):
            self.file.unlink(missing_ok=True)


def _read(file: Path) -> tuple[dict[str, Any], dict[str, list[np.ndarray]]]:
    with open_checked(file, unchecked=b"PK") as stream, np.load(stream, allow_pickle=False) as content:
        facts = json.loads(str(content["facts"]))
        found = facts.pop("format", 1)
        if found != FORMAT:
            raise FormatError(f"was written by another version of beans_exp (format {found}, not {FORMAT})")
        names = [name.partition(".")[0] for name in content.files if "." in name]
        arrays = {name: [content[f"{name}.{i}"] for i in range(names.count(name))] for name in VARIABLE_GROUPS}
    return facts, arrays


def _write(file: Path, facts: dict[str, Any], arrays: dict[str, list[np.ndarray]]) -> None:
    named: dict[str, Any] = {f"{name}.{i}": array for name, group in arrays.items() for i, array in enumerate(group)}
    write_checked(file, lambda stream: np.savez(stream, facts=np.array(json.dumps(facts)), **named))


def _discard(file: Path, reason: str) -> None:
    with suppress(OSError):
        remove(file)
    log.warning("%s %s: removed; its epochs are trained again", file, reason)
