"""The folder of a running job: its lock, the name of its checkpoint, and a file that shows its progress."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from beans_exp.files import write_whole

FILE = "running.json"
LOCK = ".running.lock"
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
    """Lock `folder` for one process; wait while another process holds it, and yield whether one did.

    The kernel releases the lock as soon as its process ends, for whatever reason.
    """
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    held = FileLock(folder / LOCK)
    waited = False
    try:
        held.acquire(timeout=0)
    except Timeout:
        waited = True
        held.acquire()
    try:
        yield waited
    finally:
        held.release()
        (folder / FILE).unlink(missing_ok=True)
