"""Where images come from: name, version, content digest, classes and a function that reads them."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from beans_exp.errors import DataError

if TYPE_CHECKING:
    import numpy as np

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Source:
    """A data set before its images are resized."""

    name: str
    version: str
    digest: str
    """Hash of the content: equal digests mean equal images and labels, wherever they are stored."""
    classes: tuple[str, ...]
    read: "Callable[[str], Iterator[tuple[np.ndarray, int]]]"
    """`read(split)` yields (image, label): uint8 RGB of any size, and the index into `classes`.

    Its only error is DataError, for images that cannot be read.
    """
    counts: dict[str, int] = field(default_factory=dict)
    """Number of images in each split, where it is known before they are read."""


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
        total.update(f"{file.relative_to(root).as_posix()} {content}\n".encode(errors="surrogateescape"))
    return total.hexdigest()


def text_digest(values: Sequence[object]) -> str:
    """Return the hash of `values`, for data that follow from them alone."""
    return hashlib.sha256(repr(tuple(values)).encode()).hexdigest()
