"""Resized images on disk, made once and shared by all runs and processes.

A prepared data set is a folder named by the hash of its inputs; it is complete or absent (`files.make_once`), and is
compared with its checksums before it is used: what a disk has damaged is prepared again.
"""

import csv
import io
import logging
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np

from beans_exp.data.cache_folder import cache_root
from beans_exp.data.image_files import UnreadableError, one_message
from beans_exp.data.images import resized
from beans_exp.data.pixels import PLAIN, Pixels
from beans_exp.data.source import SPLITS, Source, text_digest
from beans_exp.data.split import Split
from beans_exp.errors import DataError, printable
from beans_exp.files import (
    DamagedError,
    FormatError,
    csv_text,
    make_once,
    measure_folder,
    read_json,
    require_measured,
    write_json,
)
from beans_exp.terminal import progress

PREPARED_VERSION = 2
"""Raised by hand when resizing or the layout of the files changes."""
CHECKSUMS = "checksums.json"
"""The size and the CRC-32 of each file of a prepared data set."""

log = logging.getLogger("beans_exp")


LARGE = 3
"""The plain bilinear resize is pointed out for photos whose shorter side is this many times the network's input."""
SKIPPED = "skipped.csv"


def prepare(
    source: Source,
    image_size: int,
    cache_dir: str | None,
    pixels: Pixels = PLAIN,
    *,
    skip: bool = False,
    command: str = "",
) -> dict[str, Split]:
    """Return every split of `source` at `image_size`, prepared in the cache first if needed; absent splits are empty.

    The cache is checked once for all calls with the same `command`, which names the start of a sweep.
    Raises DataError for images that cannot be read, unless they are to be skipped, and for a cache that cannot be
    written.
    """
    folder = _folder(source, image_size, cache_dir, pixels)
    checked = folder.with_name(f"{folder.name}.checked")
    if not (command and folder.is_dir() and _read(checked) == command):
        if not folder.is_dir() or find_problem(folder):
            _prepare_once(source, image_size, folder, pixels, skip)
        with suppress(OSError):  # a cache that others prepared need not be writable
            if command:
                checked.write_text(command)
    skipped = _read_skipped(folder)
    if skipped and not skip:
        raise one_message([UnreadableError(name, reason) for _, name, reason in skipped])
    empty = Split(np.empty((0, image_size, image_size, 3), np.uint8), np.empty(0, np.int64))
    left_out = {name for _, name, _ in skipped}
    loaded = {split: _load(folder, source, split, image_size, left_out) for split in source.splits}
    return dict.fromkeys(SPLITS, empty) | loaded


def skipped_images(
    source: Source, image_size: int, cache_dir: str | None, pixels: Pixels = PLAIN
) -> list[tuple[str, str]]:
    """Return the images that were left out of a prepared data set, with the reasons."""
    return [(name, reason) for _, name, reason in _read_skipped(_folder(source, image_size, cache_dir, pixels))]


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except (OSError, ValueError):
        return ""


def find_problem(folder: Path) -> str:
    """Return why the files of a prepared data set cannot be used; nothing if they are as they were written."""
    try:
        _require_intact(folder)
    except FormatError as error:
        return str(error)
    except (OSError, DamagedError) as error:
        return f"is damaged ({error})"
    return ""


def _require_intact(folder: Path) -> None:
    if not (folder / CHECKSUMS).exists():
        raise FormatError("was written by another version of beans_exp, without checksums")
    require_measured(folder, read_json(folder / CHECKSUMS)["files"])


def _is_usable(folder: Path) -> bool:
    """Whether a prepared data set is as it was written; else log why it is about to be prepared again."""
    if problem := find_problem(folder):
        log.warning("%s %s: its images are prepared again", folder, problem)
    return not problem


def _folder(source: Source, image_size: int, cache_dir: str | None, pixels: Pixels) -> Path:
    key = text_digest((PREPARED_VERSION, source.name, source.digest, source.classes, image_size, *pixels.changes()))
    return cache_root(cache_dir) / "data" / f"{source.name}-{image_size}-{key[:16]}"


def _prepare_once(source: Source, image_size: int, folder: Path, pixels: Pixels, skip: bool) -> None:
    try:
        make_once(folder, partial(_write_splits, source, image_size, pixels, skip), is_usable=_is_usable)
    except OSError as error:
        rule = "Free some space, or choose another folder with data.cache_dir or XDG_CACHE_HOME"
        raise DataError(f"the image cache {folder.parent} cannot be written ({error}). {rule}") from error


def _write_splits(source: Source, image_size: int, pixels: Pixels, skip: bool, folder: Path) -> None:
    folder.mkdir()
    shapes = _Shapes(image_size)
    unread = {split: _write_split(source, split, image_size, pixels, folder, shapes) for split in source.splits}
    errors = [error for found in unread.values() for error in found.values()]
    if errors and not skip:
        raise one_message(errors)
    for split in source.splits:
        _require_classes(source, split, np.load(_labels_file(folder, split)).tolist())
    if errors:
        (folder / SKIPPED).write_text(csv_text(["split", "image", "reason"], _skipped_rows(source, unread)))
    shapes.warn(source, pixels)
    write_json(folder / CHECKSUMS, {"files": measure_folder(folder)})


def _skipped_rows(source: Source, unread: dict[str, dict[int, UnreadableError]]) -> Iterator[tuple[str, str, str]]:
    for split, errors in unread.items():
        names = source.names(split)
        yield from ((split, names[index], printable(error.reason)) for index, error in errors.items())


def _write_split(
    source: Source, split: str, image_size: int, pixels: Pixels, folder: Path, shapes: "_Shapes"
) -> dict[int, UnreadableError]:
    """Write the images and labels of a split; return the errors of those that cannot be read, by their indices."""
    labels: list[int] = []
    unread: dict[int, UnreadableError] = {}
    title = f"{source.name}: {split} images to {image_size}x{image_size}"
    images = resized(source.read(split), image_size, pixels, shapes.add)
    with _images_file(folder, split).open("wb") as file:  # few images at a time bound the memory
        for image, label in progress(images, title, source.counts.get(split)):
            if isinstance(image, UnreadableError):
                unread[len(labels) + len(unread)] = image
            else:
                file.write(image.tobytes())
                labels.append(label)
    np.save(_labels_file(folder, split), np.array(labels, dtype=np.int64))
    return unread


class _Shapes:
    """Counts the images that are far larger than the network's input."""

    def __init__(self, image_size: int) -> None:
        self.image_size = image_size
        self.images = 0
        self.large = 0

    def add(self, height: int, width: int) -> None:
        self.images += 1
        self.large += min(height, width) >= LARGE * self.image_size

    def warn(self, source: Source, pixels: Pixels) -> None:
        """Point out, once for a prepared data set, what the plain resize does to photos."""
        if pixels.resize == "bilinear" and self.large > self.images / 2:
            log.warning(
                "%s: %d of %d images are at least %d times larger than data.image_size=%d, and data.resize=bilinear "
                "skips most of their pixels; data.resize=antialias averages them",
                *(source.name, self.large, self.images, LARGE, self.image_size),
            )


def _read_skipped(folder: Path) -> list[list[str]]:
    """The images that were left out: split, name and reason of each."""
    file = folder / SKIPPED
    return list(csv.reader(io.StringIO(file.read_text())))[1:] if file.is_file() else []


def _require_classes(source: Source, split: str, labels: list[int]) -> None:
    missing = sorted(set(range(len(source.classes))) - set(labels))
    if missing:
        raise DataError(f"{source.name}: the {split} split has no image of class {source.classes[missing[0]]}")


def _load(folder: Path, source: Source, split: str, image_size: int, left_out: set[str]) -> Split:
    file = _labels_file(folder, split)
    try:
        labels = np.load(file)
        file = _images_file(folder, split)
        images = np.memmap(file, np.uint8, "r", shape=(len(labels), image_size, image_size, 3))
        return Split(images, labels, [name for name in source.names(split) if name not in left_out])
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{file} is damaged ({error}). Remove {folder} to have it prepared again") from error


def _images_file(folder: Path, split: str) -> Path:
    """The file of raw pixels, uint8 (n, S, S, 3) in C order."""
    return folder / f"{split}.images.raw"


def _labels_file(folder: Path, split: str) -> Path:
    return folder / f"{split}.labels.npy"
