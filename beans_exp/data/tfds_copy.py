"""A copy of an image classification set that TFDS prepared: its splits, classes and records, from its description."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from beans_exp.data.source import SPLITS
from beans_exp.data.splitting import split_named
from beans_exp.errors import DataError

INFO, FEATURES = "dataset_info.json", "features.json"
CYCLE, BLOCK = 16, 16
"""TFDS reads 16 record files in turns, 16 records from each."""

Shards = dict[Path, int]
"""The record files of a split, in order, with the number of images in each."""


@dataclass(frozen=True)
class Copy:
    """A prepared copy."""

    folder: Path
    dataset: str
    """NAME or NAME/CONFIG."""
    version: str
    splits: dict[str, str]
    """TFDS's names of train, validation and test, as far as it has them."""
    shards: dict[str, Shards]
    """By our names of the splits."""
    image: str
    label: str
    """The features of images and labels."""
    channels: int
    """Of its images: 1, 3 or 4; 0 if they differ."""
    classes: tuple[str, ...]
    in_turns: bool
    """Whether TFDS reads several record files in turns."""

    def record_names(self, split: str) -> list[str]:
        """Return the id of each record of `split`, as TFDS writes it, in the order in which TFDS reads them."""
        names, lengths = [file.name for file in self.shards[split]], list(self.shards[split].values())
        return [f"{names[shard]}__{record}" for shard, record in reading_order(lengths, CYCLE if self.in_turns else 1)]


def find_copy(root: Path, dataset: str) -> Path:
    """Return the folder of `dataset`, NAME[/CONFIG]:VERSION, below `root`, whether it exists or not.

    Raises DataError if it exists in several configurations.
    """
    name, _, version = dataset.partition(":")
    plain = root / name / version
    if "/" in name or (plain / INFO).is_file():
        return plain
    found = sorted(file.parent for file in (root / name).glob(f"*/{version}/{INFO}"))
    if len(found) > 1:
        named = ", ".join(f"{name}/{folder.parent.name}:{version}" for folder in found)
        raise DataError(f"data.dataset={dataset}: must name a configuration. Choose one of {named}")
    return found[0] if found else plain


def read_copy(folder: Path, root: Path, required: Sequence[str]) -> Copy:
    """Read the description of the copy in `folder`.

    Raises DataError for a description that is damaged or lacks `required` splits, for missing record files, and for a
    set that has no image with one label.
    """
    file = folder / INFO
    try:
        info = json.loads(file.read_text())
        found = {name: split for split in info["splits"] if (name := split_named(split["name"]))}
        shards = {
            split: _record_files(folder, info, found[split]) for split in SPLITS if split in found or split in required
        }
        features = json.loads((folder / FEATURES).read_text())["featuresDict"]["features"]
        image, label = _supervised_keys(info, features, folder)
        count = int(features[label]["classLabel"].get("numClasses", 0))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file} is damaged ({error!r}). {prepare_again(folder)}") from error
    _require_files(shards, folder)
    return Copy(
        folder,
        folder.parent.relative_to(root).as_posix(),
        folder.name,
        {split: found[split]["name"] for split in shards},
        shards,
        image,
        label,
        _channels(features[image]),
        _classes(folder, label, count, numbered=not required),
        not info.get("disableShuffling", False),
    )


def _record_files(folder: Path, info: dict[str, Any], split: dict[str, Any]) -> Shards:
    template = split.get("filepathTemplate") or "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
    lengths = [int(length) for length in split["shardLengths"]]
    values = {"DATASET": info["name"], "SPLIT": split["name"], "FILEFORMAT": info.get("fileFormat", "tfrecord")}
    count = len(lengths)
    return {
        folder
        / template.format(**values, SHARD_INDEX=f"{number:05d}", SHARD_X_OF_Y=f"{number:05d}-of-{count:05d}"): length
        for number, length in enumerate(lengths)
    }


def _require_files(shards: dict[str, Shards], folder: Path) -> None:
    for file in (file for files in shards.values() for file in files):
        if not file.is_file():
            raise DataError(f"{file} is missing. {prepare_again(folder)}")


def _supervised_keys(info: dict[str, Any], features: dict[str, Any], folder: Path) -> tuple[str, str]:
    """The features that TFDS names as input and target: one image of 8 bits, and one of several classes."""
    items = info.get("supervisedKeys", {}).get("tuple", {}).get("items", [])
    keys = [str(item.get("featureKey")) for item in items]
    image, label = (features.get(key, {}) for key in keys) if len(keys) == 2 else ({}, {})
    if "image" not in image or image["image"].get("dtype", "uint8") != "uint8" or "classLabel" not in label:
        raise DataError(f"{folder}: must be a set of images of 8 bits with one class each. Choose another data.dataset")
    return keys[0], keys[1]


def _channels(feature: dict[str, Any]) -> int:
    """The channels of an image; TFDS writes an unknown size as -1, and no shape at all for the default, RGB."""
    dimensions = feature["image"].get("shape", {}).get("dimensions") or ["3"]
    return max(0, int(dimensions[-1]))


def _classes(folder: Path, label: str, count: int, *, numbered: bool) -> tuple[str, ...]:
    """The names of the classes, one a line; their numbers where TFDS has none, if the set may be `numbered`."""
    file = folder / f"{label}.labels.txt"
    if numbered and not file.is_file():
        return tuple(str(number) for number in range(count))
    try:
        return tuple(line.strip() for line in file.read_text().splitlines() if line.strip())
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read ({error}). {prepare_again(folder)}") from error


def reading_order(lengths: Sequence[int], cycle: int) -> Iterator[tuple[int, int]]:
    """Yield file and record of each record, as `tf.data` interleaves files of these `lengths`."""
    waiting = iter(range(len(lengths)))
    slots: list[tuple[int, int] | None] = [None] * cycle
    left, slot = sum(lengths), 0
    while left:
        if slots[slot] is None and (opened := next(waiting, None)) is not None:
            slots[slot] = (opened, 0)
        current = slots[slot]
        if current is not None:
            shard, first = current
            last = min(first + BLOCK, lengths[shard])
            yield from ((shard, record) for record in range(first, last))
            left -= last - first
            slots[slot] = None if last - first < BLOCK else (shard, last)
        slot = (slot + 1) % cycle


def prepare_again(folder: Path) -> str:
    """Return the way out of a damaged copy."""
    return f"Remove {folder} and let TFDS prepare it again, or copy it again from an intact copy"
