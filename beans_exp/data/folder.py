"""The user's own images: `{train,validation,test}/<class>/*.{jpg,png}`, two or more classes."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from beans_exp.data.source import SPLITS, Source, files_digest
from beans_exp.errors import DataError, is_text
from beans_exp.files import user_path

if TYPE_CHECKING:
    import numpy as np

SUFFIXES = (".jpg", ".jpeg", ".png")


def folder_source(data_dir: str) -> Source:
    """Describe the images below `data_dir`; the classes are the sorted folder names.

    Raises DataError for a missing split, class or image, for a file without a JPEG or PNG suffix, and for a file or
    folder that cannot be read.
    """
    root = user_path(data_dir)
    try:
        folders = {split: _split_folder(root, split) for split in SPLITS}
        classes = _classes(folders)
        files = {split: _split_files(folder, classes) for split, folder in folders.items()}
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read ({error.strerror})") from error
    digest = files_digest(root, (file for listed in files.values() for file, _ in listed))
    counts = {split: len(listed) for split, listed in files.items()}
    return Source("folder", digest[:8], digest, classes, partial(_read, files), counts)


def _split_folder(root: Path, split: str) -> Path:
    names = ("validation", "val") if split == "validation" else (split,)
    found = [root / name for name in names if (root / name).is_dir()]
    if len(found) == 1:
        return found[0]
    if found:
        raise DataError(f"{root} has both {found[0].name} and {found[1].name}. Keep one of them")
    raise DataError(f"{root / names[0]} is missing: data.data_dir must hold train, validation (or val) and test")


def _classes(folders: dict[str, Path]) -> tuple[str, ...]:
    found = {split: {child.name for child in _children(folder) if child.is_dir()} for split, folder in folders.items()}
    classes = sorted(set().union(*found.values()))
    for name in classes:
        if not is_text(name):
            raise DataError(f"{folders['train'] / name}: must be named in UTF-8, because it names a class. Rename it")
    if len(classes) < 2:
        raise DataError(f"{folders['train']} holds {len(classes)} class folders: two or more are needed")
    for split, names in found.items():
        for missing in sorted(set(classes) - names):
            raise DataError(f"{folders[split] / missing} is missing: each class needs images in every split")
    return tuple(classes)


def _split_files(folder: Path, classes: tuple[str, ...]) -> list[tuple[Path, int]]:
    files: list[tuple[Path, int]] = []
    for label, name in enumerate(classes):
        images = _children(folder / name)
        for file in images:
            if file.suffix.lower() not in SUFFIXES:
                raise DataError(f"{file} is not an image: a class folder may hold only {', '.join(SUFFIXES)} files")
        if not images:
            raise DataError(f"{folder / name} is empty: each class needs images in every split")
        files += [(file, label) for file in images]
    return files


def _children(folder: Path) -> list[Path]:
    return sorted(child for child in folder.iterdir() if not child.name.startswith("."))


def _read(files: dict[str, list[tuple[Path, int]]], split: str) -> "Iterator[tuple[np.ndarray, int]]":
    for file, label in files[split]:
        yield read_image(file), label


def read_image(file: Path) -> "np.ndarray":
    """Return the image in `file` as uint8 (H, W, 3), rotated by its EXIF orientation, without transparency.

    Raises DataError for a file that is not an image, is damaged or is truncated.
    """
    import numpy as np
    from PIL import Image, ImageOps

    try:
        with Image.open(file) as image:
            upright = ImageOps.exif_transpose(image)
            if upright.mode.startswith("I;16"):  # Pillow would clip instead of scaling
                upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
            if upright.has_transparency_data:
                upright = upright.convert("RGBA")  # else Pillow warns about palettes
            return np.asarray(upright.convert("RGB"))
    except Exception as error:  # Pillow raises many types for files that are damaged or no images
        raise DataError(f"{file} cannot be read as an image ({error}). Fix or remove it") from error
