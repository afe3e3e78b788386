"""A run that is under way, in its folder: a lock, its checkpoint, and a small file that says where it stands."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock, Timeout

FILE = "running.json"
LOCK = ".running.lock"
CHECKPOINT = "checkpoint.npz"


@dataclass(frozen=True)
class RunProgress:
    """Where a run stands after an epoch."""

    stage: int
    epoch: int
    """Counted from 1 over all stages, like `epochs`."""
    epochs: int
    metrics: dict[str, float]
    seconds_left: float
    """Of training, if the epochs to come take as long as this one; stages to come are counted as if they did, too."""


def write_progress(folder: Path, running: RunProgress) -> None:
    """Write `running` in place of what was said before."""
    unfinished = folder / f"{FILE}.unfinished"
    unfinished.write_text(json.dumps(asdict(running)))
    unfinished.replace(folder / FILE)


def read_progress(folder: Path) -> RunProgress | None:
    """Return what the run in `folder` said last, or None."""
    try:
        return RunProgress(**json.loads((folder / FILE).read_text()))
    except (OSError, ValueError, TypeError):
        return None


@contextmanager
def lock(folder: Path) -> Iterator[bool]:
    """Hold `folder` for one process; wait for another one that has it, and yield whether there was one.

    The lock is the kernel's: it is free as soon as its process has ended, whatever ended it.
    """
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
