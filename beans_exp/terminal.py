"""Output for people to read: progress bars, tables at a fixed width, durations; it never costs a run."""

import atexit
import errno
import logging
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from rich.console import Console

Item = TypeVar("Item")

WIDTH = 160
"""Characters in a line where the output does not go to a terminal."""


CLOSED = (errno.EPIPE, errno.EIO, errno.EBADF)
"""The errors of a stream that nobody will ever read: a closed pipe or terminal."""


class LastingStream:
    """A text stream that loses what cannot be written, because its reader has gone or its disk is full."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write `text` if that is possible; return its length in any case."""
        try:
            return self._stream.write(text)
        except OSError as error:
            self._give_up(error)
            return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write each of `lines`."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flush if that is possible."""
        try:
            self._stream.flush()
        except OSError as error:
            self._give_up(error)

    def close_quietly(self) -> None:
        """Discard what cannot be written at exit, when Python would turn it into an exit status of its own."""
        with suppress(ValueError):  # closed already
            try:
                self._stream.flush()
            except OSError:
                self._discard()

    def _give_up(self, error: OSError) -> None:
        if error.errno in CLOSED:
            self._discard()

    def _discard(self) -> None:
        """Send this and all later output, also that of C++ libraries, nowhere."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def keep_output_open() -> None:
    """Make standard output and errors lasting in this process, and open where they were closed at the start."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name) or Path(os.devnull).open("w")  # noqa: SIM115  it is open until the process ends
        if not isinstance(stream, LastingStream):
            lasting = LastingStream(stream)
            setattr(sys, name, lasting)
            atexit.register(lasting.close_quietly)
    logging.raiseExceptions = False  # a line of a log that cannot be written is lost, without a traceback for each


def progress(items: Iterable[Item], description: str, total: int | None = None) -> Iterator[Item]:
    """Yield `items` behind a progress bar that leaves one line: `description`, the count and the seconds.

    Without `total` the bar shows activity, not how much is left.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns) as bar:
        task = bar.add_task(description, total=total)
        for item in items:
            yield item
            bar.advance(task)
        bar.update(task, total=bar.tasks[task].completed)


def open_console(*, stderr: bool = False) -> "Console":
    """Return a Rich console that prints text as it is, without markup, and `WIDTH` wide outside a terminal."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else WIDTH
    return Console(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)


def duration(seconds: float) -> str:
    """Return `seconds` for a reader: `48 s`, `3 min 20 s`."""
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"
