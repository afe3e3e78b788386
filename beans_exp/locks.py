"""Locks that processes share as files; whoever has to wait for one is told for whom."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from beans_exp.processes import describe, is_dead, this_process

NOTICE_SECONDS = 2.0
"""How long a wait may be before it is worth a line."""

log = logging.getLogger("beans_exp")


@contextmanager
def locked(file: Path, purpose: str, notice_seconds: float = NOTICE_SECONDS) -> Iterator[bool]:
    """Hold the lock `file`; wait while another process holds it, and yield whether one did.

    A longer wait is logged with the holder, who `purpose`, as in "is making the same file". The kernel releases the
    lock as soon as its process ends, for whatever reason.
    """
    from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

    lock: BaseFileLock = FileLock(file)
    waited = False
    try:
        lock.acquire(timeout=0)
    except Timeout:
        waited = True
        with suppress(Timeout):
            lock.acquire(timeout=notice_seconds)
    if not lock.is_locked:
        log.warning("waiting for %s", _holder(file, purpose))
        lock.acquire()
    try:
        if not isinstance(lock, SoftFileLock):  # its content is the lock, on file systems without others
            with suppress(OSError):  # Windows lets nobody write to a locked file
                file.write_text(this_process())
        yield waited
    finally:
        lock.release()


def find_holder(file: Path, purpose: str) -> str | None:
    """Return, in words, the process that holds the lock `file` and who `purpose`; None if nobody does."""
    from filelock import FileLock, Timeout

    if not file.exists():
        return None
    try:
        with FileLock(file, timeout=0):
            return None
    except Timeout:
        return _holder(file, purpose)


def _holder(file: Path, purpose: str) -> str:
    """The process that holds a lock in words; one that has not written its name yet is another process."""
    try:
        name = file.read_text()
    except (OSError, ValueError):
        name = ""
    return describe("" if is_dead(name) else name, purpose)
