"""Files: users' paths, files that are complete or absent, and targets that are made once."""

import csv
import io
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

UNFINISHED = ".unfinished"
"""The suffix of a target while it is written; a killed process leaves it behind, and the next one removes it."""


class FormatError(Exception):
    """A file that another version of the project wrote in a format of its own."""


def user_path(path: str | Path) -> Path:
    """Return `path` absolute, with `~` as the user's home; the name of an unknown user stays as it is."""
    return Path(os.path.expanduser(path)).resolve()  # noqa: PTH111  Path.expanduser raises for an unknown user


def write_whole(file: Path, content: str | bytes | Callable[[BinaryIO], object]) -> None:
    """Replace `file` with `content`, or with the output of a function that writes to a stream.

    The content is on disk when this returns; a crash leaves either the old file or the new one. Raises OSError if
    writing fails; the old file then stays.
    """
    unfinished = file.with_name(f"{file.name}{UNFINISHED}")
    try:
        with unfinished.open("wb") as stream:
            if callable(content):
                content(stream)
            else:
                stream.write(content.encode() if isinstance(content, str) else content)
            stream.flush()
            os.fsync(stream.fileno())
        unfinished.replace(file)
        sync(file.parent)
    finally:
        unfinished.unlink(missing_ok=True)


def make_once(target: Path, make: Callable[[Path], None], lock: Path | None = None) -> bool:
    """Make the file or folder `target` unless it exists, and return whether it was made by this call.

    `make` writes to the path that it is given, which is renamed to `target` once its content is on disk. Processes that
    need the same target wait for the one that makes it, at the file `lock`, by default `target` with `.lock` appended.
    Raises the errors of `make`, and OSError.
    """
    from filelock import FileLock

    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock or target.with_name(f"{target.name}.lock")):
        if target.exists():
            return False
        unfinished = target.with_name(f"{target.name}{UNFINISHED}")
        remove(unfinished)
        try:
            make(unfinished)
            sync_tree(unfinished)
            unfinished.rename(target)
            sync(target.parent)
        finally:
            remove(unfinished)
    return True


def sync(path: Path) -> None:
    """Return once the file or folder `path` is on disk."""
    if os.name == "nt":  # Windows opens no folders, and syncs no file that is open for reading
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(path: Path) -> None:
    """Return once the file or folder `path`, with everything in it, is on disk."""
    for each in (*path.rglob("*"), path):
        sync(each)


def remove(path: Path) -> None:
    """Remove a file, or a folder with its content, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def csv_text(header: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """Return the text of a CSV file: `header`, then one line for each of `rows`."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(header)
    lines.writerows(rows)
    return text.getvalue()
