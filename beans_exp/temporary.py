"""Temporary files of a process in a folder of its own; what a killed process leaves is removed by others."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from multiprocessing.util import Finalize
from pathlib import Path

from beans_exp.files import remove

PREFIX, LOCK = "beans_exp-", ".lock"
LONGEST = 58
"""Characters of a path below which the sockets of `multiprocessing` fit a folder of ours: they may have some 104."""


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield a new folder, which is removed at the end; the lock beside it is held as long as this process lives.

    Raises OSError if it cannot be made.
    """
    from filelock import FileLock

    folder = _shared_folder() / f"{PREFIX}{os.urandom(4).hex()}"
    lock = folder.with_name(f"{folder.name}{LOCK}")
    with FileLock(lock):
        try:
            folder.mkdir(mode=0o700)
            yield folder
        finally:
            remove(folder)
            lock.unlink(missing_ok=True)


@contextmanager
def own_temporary_folder() -> Iterator[None]:
    """Make this process's temporary files in a folder of its own, which is removed at the end.

    That concerns the libraries, too: TensorFlow leaves the source of each function that it traces. The folders of
    processes that were killed are removed at first.
    """
    before = tempfile.tempdir
    remove_abandoned()
    with ExitStack() as last:
        with suppress(OSError):  # a full disk costs no run
            tempfile.tempdir = str(last.enter_context(temporary_folder()))
        try:
            yield
        finally:
            tempfile.tempdir = before


@cache
def keep_own_temporary_folder() -> None:
    """Use a folder of its own until this process ends: processes that it has started may need files in it."""
    if len(str(_shared_folder())) <= LONGEST:
        folder = own_temporary_folder()
        folder.__enter__()
        Finalize(None, folder.__exit__, args=(None, None, None), exitpriority=-200)  # after the folder in it, at -100


def remove_abandoned() -> None:
    """Remove the folders of processes that were killed."""
    from filelock import FileLock, Timeout

    for lock in _shared_folder().glob(f"{PREFIX}*{LOCK}"):
        with suppress(OSError, Timeout), FileLock(lock, timeout=0):  # else its process lives, or is another user's
            remove(lock.with_suffix(""))
            lock.unlink(missing_ok=True)


def _shared_folder() -> Path:
    """The folder of temporary files of all processes, whether or not this one has a folder of its own in it."""
    folder = Path(tempfile.gettempdir())
    return folder.parent if folder.with_name(f"{folder.name}{LOCK}").exists() else folder
