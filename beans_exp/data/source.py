"""Where images come from: name, version, content digest, classes and a function that reads them."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from beans_exp.data.images import Opener

SPLITS = ("train", "validation", "test")


SPLIT_NAMES = {"train": ("train",), "validation": ("validation", "val", "valid", "dev"), "test": ("test",)}
"""How data sets name their splits, in any case."""


@dataclass(frozen=True)
class Source:
    """A data set before its images are resized."""

    name: str
    version: str
    digest: str
    """Hash of the content: equal digests mean equal images and labels, wherever they are stored."""
    classes: tuple[str, ...]
    read: "Callable[[str], Iterator[tuple[np.ndarray | Opener, int]]]"
    """`read(split)` yields (image, label): uint8 RGB of any size or a function that reads it, the index in `classes`.

    Its only error is DataError, for images that cannot be read.
    """
    counts: dict[str, int] = field(default_factory=dict)
    """Number of images in each split, where it is known before they are read."""
    names: "Callable[[str], Sequence[str]]" = lambda split: ()
    """`names(split)` returns the file or record of each image that `read(split)` yields, if it is known."""
    decoder: str = "pillow"
    """What decodes its JPEG files, as in `Pixels`."""
    no_test: str = ""
    """Why it has no test split, and the way out; empty if it has one."""
    ignored: Mapping[str, int] = field(default_factory=dict)
    """Leftovers of systems by name, with their numbers."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Files that are left out before they are read, with the reasons."""
    split_csv: "Callable[[], str] | None" = None
    """Returns the table `image,split` of a split that was drawn; None if the data set has its own."""

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that it has."""
        return SPLITS[:2] if self.no_test else SPLITS


def text_digest(values: Sequence[object]) -> str:
    """Return the hash of `values`, for data that follow from them alone."""
    return hashlib.sha256(repr(tuple(values)).encode()).hexdigest()
