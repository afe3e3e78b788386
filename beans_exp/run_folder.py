"""The folder of a running job: its lock, the name of its checkpoint, and a file that shows its progress."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from beans_exp.files import write_whole
from beans_exp.locks import find_holder, locked

FILE = "running.json"
LOCK = ".running.lock"
PURPOSE = "is running the same run"
CHECKPOINT = "checkpoint.npz"


@dataclass(frozen=True)
class RunProgress:
    """Progress of a run after an epoch."""

    stage: int
    epoch: int
    """Counted from 1 over all stages, like `epochs`."""
    epochs: int
    metrics: dict[str, float]
    seconds_left: float
    """Estimate of the remaining training time: every remaining epoch of any stage takes as long as this stage's."""


def write_progress(folder: Path, progress: RunProgress) -> None:
    """Replace the progress file of `folder`. Raises OSError if it cannot be written."""
    write_whole(folder / FILE, json.dumps(asdict(progress)))


def read_progress(folder: Path) -> RunProgress | None:
    """Return the progress of the run in `folder`, or None if it has reported none."""
    try:
        return RunProgress(**json.loads((folder / FILE).read_text()))
    except (OSError, ValueError, TypeError):
        return None


@contextmanager
def lock(folder: Path) -> Iterator[bool]:
    """Lock `folder` for one process; wait while another process holds it, and yield whether one did."""
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / LOCK, PURPOSE, notice_seconds=0) as waited:
        try:
            yield waited
        finally:
            (folder / FILE).unlink(missing_ok=True)


def holder(folder: Path) -> str | None:
    """Return, in words, the process that is running the run in `folder`; None if none is."""
    return find_holder(folder / LOCK, PURPOSE)
