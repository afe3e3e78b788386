"""Resized images on disk, made once and shared by all runs and processes.

A prepared data set is a folder named by the hash of its inputs; it is complete or absent (`files.make_once`), and is
compared with its checksums before it is used: what a disk has damaged is prepared again.
"""

import logging
import os
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np

from beans_exp.data.images import resize
from beans_exp.data.source import SPLITS, Source, text_digest
from beans_exp.data.split import Split
from beans_exp.errors import DataError
from beans_exp.files import (
    DamagedError,
    FormatError,
    make_once,
    measure_folder,
    read_json,
    require_measured,
    user_path,
    write_json,
)
from beans_exp.terminal import progress

PREPARED_VERSION = 2
"""Raised by hand when resizing or the layout of the files changes."""
CHECKSUMS = "checksums.json"
"""The size and the CRC-32 of each file of a prepared data set."""

log = logging.getLogger("beans_exp")


def cache_root(cache_dir: str | None) -> Path:
    """Return the folder of everything that can be computed again: `cache_dir`, else $XDG_CACHE_HOME/beans_exp."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "beans_exp"
    return user_path(cache_dir or default)


def prepare(source: Source, image_size: int, cache_dir: str | None, command: str = "") -> dict[str, Split]:
    """Return every split of `source` at `image_size`, prepared in the cache first if needed.

    The cache is checked once for all calls with the same `command`, which names the start of a sweep.
    Raises DataError for images that cannot be read and for a cache that cannot be written.
    """
    folder = _folder(source, image_size, cache_dir)
    checked = folder.with_name(f"{folder.name}.checked")
    if not (command and folder.is_dir() and _read(checked) == command):
        if not folder.is_dir() or find_problem(folder):
            _prepare_once(source, image_size, folder)
        with suppress(OSError):  # a cache that others prepared need not be writable
            if command:
                checked.write_text(command)
    return {split: _load(folder, split, image_size) for split in SPLITS}


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


def _folder(source: Source, image_size: int, cache_dir: str | None) -> Path:
    key = text_digest((PREPARED_VERSION, source.name, source.digest, source.classes, image_size))
    return cache_root(cache_dir) / "data" / f"{source.name}-{image_size}-{key[:16]}"


def _prepare_once(source: Source, image_size: int, folder: Path) -> None:
    try:
        make_once(folder, partial(_write_splits, source, image_size), is_usable=_is_usable)
    except OSError as error:
        rule = "Free some space, or choose another folder with data.cache_dir or XDG_CACHE_HOME"
        raise DataError(f"the image cache {folder.parent} cannot be written ({error}). {rule}") from error


def _write_splits(source: Source, image_size: int, folder: Path) -> None:
    folder.mkdir()
    for split in SPLITS:
        _write_split(source, split, image_size, folder)
    write_json(folder / CHECKSUMS, {"files": measure_folder(folder)})


def _write_split(source: Source, split: str, image_size: int, folder: Path) -> None:
    labels: list[int] = []
    title = f"{source.name}: {split} images to {image_size}x{image_size}"
    with _images_file(folder, split).open("wb") as file:  # one image at a time bounds the memory
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
        raise DataError(f"{file} is damaged ({error}). Remove {folder} to have it prepared again") from error


def _images_file(folder: Path, split: str) -> Path:
    """The file of raw pixels, uint8 (n, S, S, 3) in C order."""
    return folder / f"{split}.images.raw"


def _labels_file(folder: Path, split: str) -> Path:
    return folder / f"{split}.labels.npy"
