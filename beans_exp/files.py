"""Files: users' paths, files that are complete or absent, checked files, and targets that are made once."""

import csv
import errno
import io
import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from beans_exp.locks import locked

UNFINISHED = ".unfinished"
"""The suffix of a target while it is written; a killed process leaves it behind, and the next one removes it."""
HEADER = "beans_exp checked file 1: {:020d} bytes, crc32 {:08x}\n"
"""The first line of a checked file, about the rest.

A CRC-32 misses no change of a single byte and no burst of up to 32 bits, and one in four billion of all others. It was
measured to be twice as fast as SHA-1 and SHA-256 and five times as fast as BLAKE2b, and nobody forges these files.
"""
CHUNK = 1 << 20


class FormatError(Exception):
    """A file that another version of the project wrote in a format of its own."""


class DamagedError(Exception):
    """A file whose content is not what was written."""


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


def write_checked(file: Path, write: Callable[[BinaryIO], object]) -> None:
    """Replace `file`, as `write_whole` does, by a checked file of what `write` writes to a stream without `seek`."""

    def write_with_header(stream: BinaryIO) -> None:
        stream.write(HEADER.format(0, 0).encode())
        measured = _MeasuredStream(stream)
        write(measured)  # type: ignore[arg-type]
        stream.seek(0)
        stream.write(HEADER.format(measured.count, measured.checksum).encode())

    write_whole(file, write_with_header)


@contextmanager
def open_checked(file: Path, unchecked: bytes) -> Iterator[BinaryIO]:
    """Yield a stream of what `write_checked` wrote to `file`, all of which was compared with its checksum.

    A file that begins with `unchecked` is one of a version without checksums, and yielded as it is.
    Raises DamagedError, also for a disk that cannot read it, and OSError.
    """
    try:
        with file.open("rb") as stream:
            header = stream.read(len(HEADER.format(0, 0)))
            if header.startswith(unchecked):
                stream.seek(0)
            elif header != HEADER.format(*measure(stream)).encode():
                raise DamagedError("its checksum differs")
            else:
                stream.seek(len(header))
            yield stream
    except OSError as error:
        if error.errno == errno.EIO:
            raise DamagedError(str(error)) from error
        raise


def write_json(file: Path, content: dict[str, Any]) -> None:
    """Replace `file` by a checked file of `content`."""
    write_checked(file, lambda stream: stream.write(json.dumps(content).encode()))


def read_json(file: Path) -> dict[str, Any]:
    """Return what `write_json`, or a version without checksums, wrote to `file`. Raises DamagedError, and OSError."""
    with open_checked(file, unchecked=b"{") as stream:
        try:
            return json.loads(stream.read())
        except ValueError as error:
            raise DamagedError(str(error)) from error


def measure_folder(folder: Path) -> dict[str, list[int]]:
    """Return size and CRC-32 of each file in `folder`, by its path below it. Raises OSError."""
    found = {}
    for file in sorted(each for each in folder.rglob("*") if each.is_file()):
        with file.open("rb") as stream:
            found[file.relative_to(folder).as_posix()] = list(measure(stream))
    return found


def require_measured(folder: Path, expected: dict[str, list[int]]) -> None:
    """Raise DamagedError unless the files in `folder` are as they were when `expected` was measured."""
    for name, measured in expected.items():
        try:
            with (folder / name).open("rb") as stream:
                is_same = list(measure(stream)) == measured
        except OSError as error:
            raise DamagedError(str(error)) from error
        if not is_same:
            raise DamagedError(f"the checksum of {name} differs")


def measure(stream: BinaryIO) -> tuple[int, int]:
    """Return the number of bytes up to the end of `stream`, and their CRC-32."""
    count = checksum = 0
    while chunk := stream.read(CHUNK):
        count, checksum = count + len(chunk), zlib.crc32(chunk, checksum)
    return count, checksum


class _MeasuredStream(io.RawIOBase):
    """Counts what is written to a stream, and computes its checksum."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        self.count = self.checksum = 0

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        view = memoryview(content).cast("B")
        self.count, self.checksum = self.count + len(view), zlib.crc32(view, self.checksum)
        return self.stream.write(view)


def make_once(
    target: Path,
    make: Callable[[Path], None],
    lock: Path | None = None,
    is_usable: Callable[[Path], bool] = lambda target: True,
) -> bool:
    """Make the file or folder `target` unless it exists and `is_usable`; return whether it was made by this call.

    `make` writes to the path that it is given, which is renamed to `target` once its content is on disk. Processes that
    need the same target wait for the one that makes it, at the file `lock`, by default `target` with `.lock` appended.
    Raises the errors of `make`, and OSError.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with locked(lock or target.with_name(f"{target.name}.lock"), f"is making {target}"):
        if target.exists() and is_usable(target):
            return False
        remove(target)
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
