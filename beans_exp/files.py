"""Files: paths as users write them, files that are whole or absent, and things that are made once."""

import csv
import io
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock

UNFINISHED = ".unfinished"
"""What is being written ends in this; a process that was killed leaves it behind, and the next one removes it."""


def user_path(path: str | Path) -> Path:
    """Return `path` absolute, with `~` as the user's home; the name of an unknown user stays as it is."""
    return Path(os.path.expanduser(path)).resolve()  # noqa: PTH111  Path.expanduser raises for an unknown user


def write_whole(file: Path, content: str | bytes | Callable[[BinaryIO], object]) -> None:
    """Replace `file` by `content`, or by what it writes to the stream it is given; a crash leaves the old or the new.

    The content is on disk when this returns. Raises OSError where that fails; the old file then stays.
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


def make_once(target: Path, make: Callable[[Path], None]) -> bool:
    """Make the file or folder `target` unless it exists, and return whether it was made now.

    `make` is given the path to write to, which becomes `target` once it is whole and on disk. Processes that need the
    same target wait for the one that makes it. Raises what `make` raises, and OSError.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_name(f"{target.name}.lock")):
        if target.exists():
            return False
        unfinished = target.with_name(f"{target.name}{UNFINISHED}")
        remove(unfinished)
        try:
            make(unfinished)
            for file in unfinished.rglob("*") if unfinished.is_dir() else [unfinished]:
                sync(file)
            unfinished.rename(target)
            sync(target.parent)
        finally:
            remove(unfinished)
    return True


def sync(path: Path) -> None:
    """Return once the file or folder `path` is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Remove a file or a folder with all that is in it, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def csv_text(header: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """Return a CSV file's text: `header`, then a line for each of `rows`."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(header)
    lines.writerows(rows)
    return text.getvalue()
