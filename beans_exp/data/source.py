"""Where images come from, told without TensorFlow: name, version, content digest, classes and a way to read them."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from beans_exp.errors import DataError

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Source:
    """A data set before it is resized: what it is, and how to read a split of it."""

    name: str
    version: str
    digest: str
    """Hash of the content: equal digests are equal images and labels, wherever they lie."""
    classes: tuple[str, ...]
    read: Callable[[str], Iterator[tuple[np.ndarray, int]]]
    """`read(split)` yields (image, label): uint8 of any size, RGB, and the index into `classes`.

    It raises DataError, and no other error, for what cannot be read.
    """
    counts: dict[str, int] = field(default_factory=dict)
    """How many images each split holds, where that is known before they are read."""


def files_digest(root: Path, files: Iterable[Path]) -> str:
    """Return the hash of `files`: their content and their paths below `root`, in sorted order.

    Raises DataError for a file that cannot be read.
    """
    total = hashlib.sha256()
    for file in sorted(files):
        try:
            with file.open("rb") as stream:
                content = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise DataError(f"{file} cannot be read ({error.strerror})") from error
        total.update(f"{file.relative_to(root).as_posix()} {content}\n".encode())
    return total.hexdigest()


def text_digest(parts: Sequence[object]) -> str:
    """Return the hash of `parts`, for data that is made from them alone."""
    return hashlib.sha256(repr(tuple(parts)).encode()).hexdigest()
