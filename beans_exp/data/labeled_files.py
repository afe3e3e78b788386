"""From a list of labeled image files to a `Source`: classes, splits, digest and reading, the same for all lists."""

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from beans_exp.data.cache_folder import cache_root
from beans_exp.data.digests import file_digests
from beans_exp.data.image_files import UnreadableError, one_message, read_image
from beans_exp.data.source import SPLITS, Source, text_digest
from beans_exp.data.splitting import Image, Wanted, draw_splits, split_text
from beans_exp.errors import DataError, printable
from beans_exp.schema import DataConfig

if TYPE_CHECKING:
    from beans_exp.data.images import Opener

READING_VERSION = 1
"""Raised by hand when a change of the code reads some image files differently: a part of the digest."""


class LabeledFile(NamedTuple):
    """An image file: its path below the root, its class, the split and the group that it was given, else empty."""

    name: str
    label: str
    split: str = ""
    group: str = ""


@dataclass(frozen=True)
class FileList:
    """What a source finds: image files with labels, in the order in which they are read."""

    name: str
    """Of the source: `folder`, `table`."""
    place: Path
    """The folder or the table that the user named."""
    root: Path
    """The folder that the files' names are relative to."""
    files: Sequence[LabeledFile]
    without: Callable[[str], str]
    """Says that a split, or a class of it, is missing, as in `leaves/test is missing`."""
    ignored: Mapping[str, int] = field(default_factory=dict)
    """Leftovers of systems by name, with their numbers."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Files that are left out because they are no images, with the reasons."""


def labeled_source(listed: FileList, config: DataConfig) -> Source:
    """Return the data set of `listed`, split as `config` asks where no splits are given.

    Raises DataError for classes that cannot be told apart, for a split or a class that is missing, for a group in two
    splits, and for files that cannot be opened.
    """
    classes = _classes(listed)
    _require_whole_groups(listed)
    labels = {name: label for label, name in enumerate(classes)}
    images = [Image(file.name, labels[file.label], file.group or file.name) for file in listed.files]
    wanted = Wanted.of(config, str(listed.place), listed.without)
    splits, drawn = draw_splits(images, [file.split for file in listed.files], wanted)
    order = {split: [index for index, found in enumerate(splits) if found == split] for split in SPLITS}
    _require_classes(listed, order, classes, wanted if drawn else None)
    digest = _digest(listed, splits, config)
    return Source(
        listed.name,
        digest[:8],
        digest,
        classes,
        partial(_read, listed, labels, order),
        {split: len(found) for split, found in order.items() if found},
        lambda split: [printable(listed.files[index].name) for index in order[split]],
        no_test="" if order["test"] else wanted.no_test(drawn),
        ignored=listed.ignored,
        refused=listed.refused,
        split_csv=partial(split_text, images, splits) if drawn else None,
    )


def require_distinct(place: Path, classes: Iterable[str]) -> None:
    """Raise DataError for names of classes that are not UTF-8, or differ only in case or in their Unicode form."""
    alike: dict[str, str] = {}
    for name in sorted(set(classes)):
        if printable(name) != name:
            raise DataError(f"{place}: the name of the class {printable(name)} is not UTF-8. Rename it")
        other = alike.setdefault(unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold()), name)
        if other != name:
            same_case = unicodedata.normalize("NFC", name) == unicodedata.normalize("NFC", other)
            difference = "the Unicode form of their accents" if same_case else "case"
            shown = f"{other!a} and {name!a}" if same_case else f"{other} and {name}"
            raise DataError(f"{place}: the classes {shown} differ only in {difference}. Give them one name")


def _classes(listed: FileList) -> tuple[str, ...]:
    classes = sorted({file.label for file in listed.files})
    require_distinct(listed.place, classes)
    if len(classes) < 2:
        raise DataError(f"{listed.place} holds images of {len(classes)} classes: two or more are needed")
    return tuple(classes)


def _require_whole_groups(listed: FileList) -> None:
    splits: dict[str, str] = {}
    for file in listed.files:
        if file.group and file.split and splits.setdefault(file.group, file.split) != file.split:
            both = f"{splits[file.group]} and {file.split}"
            raise DataError(
                f"{listed.place}: the group {file.group} is in the splits {both}. Put its images into one of them"
            )


def _require_classes(
    listed: FileList, order: Mapping[str, Sequence[int]], classes: Sequence[str], drawn: Wanted | None
) -> None:
    counts = Counter(file.label for file in listed.files)
    for split in (split for split in SPLITS if order[split]):
        missing = sorted(set(classes) - {listed.files[index].label for index in order[split]})
        if missing and drawn:
            raise DataError(drawn.too_few(split, missing[0], counts[missing[0]]))
        if missing:
            raise DataError(
                f"{listed.place}: the {split} split has no image of class {missing[0]}. Each class needs images in "
                "every split"
            )


def _digest(listed: FileList, splits: Sequence[str], config: DataConfig) -> str:
    """The hash of names, classes, splits and contents, in the order of the names."""
    order = sorted(range(len(splits)), key=lambda index: listed.files[index].name)
    memory = cache_root(config.cache_dir) / "digests" / f"{text_digest((str(listed.place),))[:16]}.jsonl"
    unread: list[UnreadableError] = []
    total = hashlib.sha256(f"files read by version {READING_VERSION}\n".encode())
    names = [listed.files[index].name for index in order]
    for index, (name, content) in zip(order, file_digests(listed.root, names, memory, unread), strict=True):
        line = f"{printable(name)}\0{listed.files[index].label}\0{splits[index]}\0{content}\n"
        total.update(line.encode())
    if unread and config.on_error == "fail":
        raise one_message(unread)
    return total.hexdigest()


def _read(
    listed: FileList, labels: Mapping[str, int], order: Mapping[str, Sequence[int]], split: str
) -> "Iterator[tuple[Opener, int]]":
    for file in (listed.files[index] for index in order[split]):
        yield partial(read_image, listed.root / file.name), labels[file.label]
