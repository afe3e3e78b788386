"""Resized images on disk, made once and shared by every run and process.

A prepared data set is a folder named by what it was made from; it appears whole (written under a temporary name, then
renamed, under a lock) or not at all.
"""

import mmap
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock

from beans_exp.data.images import resize
from beans_exp.data.source import SPLITS, Source, text_digest
from beans_exp.errors import DataError
from beans_exp.files import user_path
from beans_exp.terminal import progress

PREPARED_VERSION = 2
"""Raised by hand when resizing or the files' layout changes."""


@dataclass(frozen=True)
class Split:
    """Images uint8 (n, S, S, 3), mapped from disk, and labels int64 (n,)."""

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, places: np.ndarray) -> np.ndarray:
        """Return a copy of the images at `places`; no more of the file stays in this process's memory."""
        found = self.images[places]
        self.release()
        return found

    def release(self) -> None:
        """Give back the memory of what was read from the file; the kernel may keep it for the next reader."""
        if isinstance(self.images, np.memmap) and hasattr(mmap, "MADV_DONTNEED"):
            self.images._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]


def cache_root(cache_dir: str | None) -> Path:
    """The folder for everything that can be computed again: `cache_dir`, else $XDG_CACHE_HOME/beans_exp."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "beans_exp"
    return user_path(cache_dir or default)


def prepare(source: Source, image_size: int, cache_dir: str | None) -> dict[str, Split]:
    """Return every split of `source` at `image_size`, from the cache or written to it now.

    Raises DataError for images that cannot be read and for a cache that cannot be written.
    """
    folder = _folder(source, image_size, cache_dir)
    if not folder.is_dir():
        _prepare_once(source, image_size, folder)
    return {split: _load(folder, split, image_size) for split in SPLITS}


def _folder(source: Source, image_size: int, cache_dir: str | None) -> Path:
    key = text_digest((PREPARED_VERSION, source.name, source.digest, source.classes, image_size))
    return cache_root(cache_dir) / "data" / f"{source.name}-{image_size}-{key[:16]}"


def _prepare_once(source: Source, image_size: int, folder: Path) -> None:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not folder.is_dir():  # else another process was faster
                _prepare(source, image_size, folder)
    except OSError as error:
        rule = "Free some space, or choose another folder with data.cache_dir or XDG_CACHE_HOME"
        raise DataError(f"the image cache {folder.parent} cannot be written ({error}). {rule}") from error


def _prepare(source: Source, image_size: int, folder: Path) -> None:
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)  # left by a process that was killed
    unfinished.mkdir()
    try:
        for split in SPLITS:
            _write(source, split, image_size, unfinished)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _write(source: Source, split: str, image_size: int, folder: Path) -> None:
    labels: list[int] = []
    title = f"{source.name}: {split} images to {image_size}x{image_size}"
    with _images_file(folder, split).open("wb") as file:  # one image after the other: memory for one is enough
        for image, label in progress(source.read(split), title, source.counts.get(split)):
            file.write(resize(image, image_size).tobytes())
            labels.append(label)
    _require_classes(source, split, labels)
    np.save(_labels_file(folder, split), np.array(labels, dtype=np.int64))


def _require_classes(source: Source, split: str, labels: list[int]) -> None:
    missing = sorted(set(range(len(source.classes))) - set(labels))
    if missing:
        raise DataError(f"{source.name}: the {split} split has no image of class {source.classes[missing[0]]}")


def _load(folder: Path, split: str, image_size: int) -> Split:
    file = _labels_file(folder, split)
    try:
        labels = np.load(file)
        file = _images_file(folder, split)
        return Split(np.memmap(file, np.uint8, "r", shape=(len(labels), image_size, image_size, 3)), labels)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{file} is damaged ({error}). Remove {folder}; it is made again") from error


def _images_file(folder: Path, split: str) -> Path:
    """The file of bare pixels, uint8 (n, S, S, 3) in C order."""
    return folder / f"{split}.images.raw"


def _labels_file(folder: Path, split: str) -> Path:
    return folder / f"{split}.labels.npy"
