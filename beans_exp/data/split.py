"""One split of a data set in memory or mapped from disk."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Split:
    """Images uint8 (n, S, S, 3), or activations, and labels int64 (n,)."""

    images: "np.ndarray"
    labels: "np.ndarray"
    names: Sequence[str] = ()
    """The file or the record of each image, if known."""

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, indices: "np.ndarray") -> "np.ndarray":
        """Return a copy of the images at `indices`, without keeping pages of a mapped file in memory."""
        images = self.images[indices]
        self.release()
        return images

    def release(self) -> None:
        """Drop this process's pages of a mapped file; the kernel may still cache them for the next reader."""
        import mmap

        mapped = getattr(self.images, "_mmap", None)
        if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
            mapped.madvise(mmap.MADV_DONTNEED)
