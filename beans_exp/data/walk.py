"""The files below a folder, the same for training and prediction: links are followed, leftovers of systems ignored."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

LEFTOVERS = {"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "$recycle.bin", "@eadir", "icon\r"}
"""Names, in lower case, that Windows, macOS and network drives leave in folders; hidden names are left out as well."""


def children(folder: Path, ignored: Counter[str]) -> list[Path]:
    """Return the files and folders in `folder`, sorted, without leftovers, which are counted in `ignored` by name."""
    found: list[Path] = []
    for child in folder.iterdir():
        if child.name.startswith(".") or child.name.lower() in LEFTOVERS:
            ignored["._*" if child.name.startswith("._") else child.name.strip()] += 1
        else:
            found.append(child)
    return sorted(found)


def files_below(folder: Path, ignored: Counter[str], above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Yield the files in `folder`, sorted, then those of each folder in it, in the same way.

    A link to a folder above it is not followed: it would lead around in a circle. A folder named like an image, and a
    link to nothing, are yielded as files, since reading them names the fault.
    """
    above = (*above, folder.resolve())
    found = children(folder, ignored)
    folders = [child for child in found if child.is_dir()]
    yield from (child for child in found if child not in set(folders) or _is_named_like_an_image(child))
    for child in folders:
        if child.resolve() not in above and not _is_named_like_an_image(child):
            yield from files_below(child, ignored, above)


def _is_named_like_an_image(path: Path) -> bool:
    from beans_exp.data.image_files import SUFFIXES

    return path.suffix.lower() in SUFFIXES
