"""Digests of files, remembered by size and time of change, so that only new files are read again."""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

from beans_exp.data.image_files import UnreadableError
from beans_exp.files import UNFINISHED
from beans_exp.terminal import progress

SETTLED = 2 * 10**9
"""Nanoseconds; the time of a file tells a change from an earlier one if they are that far apart."""
MANY = 1000
"""Files whose first reading takes long enough for a progress bar."""


def file_digests(
    root: Path, names: Sequence[str], memory: Path, unread: list[UnreadableError]
) -> Iterator[tuple[str, str]]:
    """Yield each of `names`, sorted paths below `root`, with the SHA-256 of its content.

    `memory` is a file of digests from earlier calls, which is replaced if one is new. A file that cannot be read has an
    empty digest and is added to `unread`.
    """
    first_time = len(names) >= MANY and not memory.is_file()
    with _Memory(memory) as remembered:
        for name in progress(names, f"{root}: reading", len(names)) if first_time else names:
            file = root / name
            try:
                found = file.stat()
                stamp = (found.st_size, found.st_mtime_ns)
                digest = remembered.find(name, stamp) or _digest(file)
            except OSError as error:
                unread.append(UnreadableError(str(file), error.strerror or str(error)))
                yield name, ""
            else:
                remembered.add(name, stamp, digest)
                yield name, digest


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class _Memory:
    """Lines of [name, [size, time of change], digest], sorted by name; read and written at once, a line at a time.

    Without a folder that can be written nothing is remembered.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.unfinished = file.with_name(f"{file.name}.{os.getpid()}{UNFINISHED}")  # of this process alone
        self.started = time.time_ns()
        self.is_new = False
        self.streams = contextlib.ExitStack()
        self.output: IO[str] | None = None
        self.known: Iterator[list] = iter(())
        self.entry: list | None = None

    def __enter__(self) -> "_Memory":
        with contextlib.suppress(OSError):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self.output = self.streams.enter_context(self.unfinished.open("w"))
        with contextlib.suppress(OSError):
            self.known = _entries(self.streams.enter_context(self.file.open()))
        self.entry = next(self.known, None)
        return self

    def find(self, name: str, stamp: tuple[int, int]) -> str | None:
        """Return the digest of `name` if it has the same `stamp`; names are asked for in order."""
        while self.entry and self.entry[0] < name:
            self.entry = next(self.known, None)
        same = self.entry and self.entry[0] == name and tuple(self.entry[1]) == stamp
        self.is_new |= not same
        return self.entry[2] if self.entry and same else None

    def add(self, name: str, stamp: tuple[int, int], digest: str) -> None:
        """Remember `digest`, unless the file was just changed: another change might have the same time."""
        if self.output and stamp[1] < self.started - SETTLED:
            self.output.write(json.dumps([name, stamp, digest]) + "\n")

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.streams.close()
        with contextlib.suppress(OSError):
            if kind is None and self.output and self.is_new:
                self.unfinished.replace(self.file)
            self.unfinished.unlink(missing_ok=True)


def _entries(lines: IO[str]) -> Iterator[list]:
    """The entries of a file; what follows a damaged line is forgotten."""
    with contextlib.suppress(ValueError):
        for line in lines:
            yield json.loads(line)
