"""Splitting of data that have no splits: stratified by class, decided by a seed and the names of the images.

The first split of a data set is exact, and kept. Images added later are placed by a hash of seed and name, so that no
other image moves.
"""

import csv
import hashlib
import io
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from beans_exp.data.source import SPLIT_NAMES, SPLITS, text_digest
from beans_exp.errors import DataError, printable
from beans_exp.files import UNFINISHED, csv_text, user_path
from beans_exp.schema import DataConfig
from beans_exp.schema.names import FRACTIONS
from beans_exp.schema.rules import shown

HEADER = ["image", "split"]


class Image(NamedTuple):
    """An image to place: its name, its class, and the group that it has to stay with, by default itself."""

    name: str
    label: int
    group: str


class Rule(NamedTuple):
    """How images are placed: fractions of train, validation and test, and the seed."""

    fractions: Sequence[float]
    seed: int


def place(images: Sequence[Image], rule: Rule, known: Mapping[str, str]) -> list[str]:
    """Return the split of each image: that of `known`, a group's other images, or one that is drawn.

    Classes of which no image is known are split exactly, the others by hash.
    """
    splits = {image.group: known[printable(image.name)] for image in images if printable(image.name) in known}
    seen = {image.label for image in images if printable(image.name) in known}
    fresh: dict[str, Counter[int]] = defaultdict(Counter)
    for image in images:
        if image.group not in splits and image.label not in seen:
            fresh[image.group][image.label] += 1
    splits |= _exact(fresh, rule)
    for image in images:
        if image.group not in splits:
            splits[image.group] = _by_hash(image.group, rule)
    return [splits[image.group] for image in images]


def _exact(groups: Mapping[str, Counter[int]], rule: Rule) -> dict[str, str]:
    """Place whole `groups`, given their images by class, so that each class is split by the fractions.

    Each group goes, the largest first, where the most images of its classes are missing. Groups of one image, in the
    order of their hashes, are thus split exactly.
    """
    total: Counter[int] = Counter()
    for counts in groups.values():
        total.update(counts)
    missing = {label: _quotas(count, rule.fractions) for label, count in total.items()}
    placed: dict[str, str] = {}
    for group in sorted(groups, key=lambda one: (-groups[one].total(), _hash(one, rule.seed))):
        shares = {label: count / total[label] for label, count in groups[group].items()}
        open_shares = [
            sum(min(share, missing[label][split] / total[label]) for label, share in shares.items())
            for split in range(len(SPLITS))
        ]
        best = max(range(len(SPLITS)), key=lambda split: (open_shares[split], rule.fractions[split]))
        for label, count in groups[group].items():
            missing[label][best] -= count
        placed[group] = SPLITS[best]
    return placed


def _quotas(count: int, fractions: Sequence[float]) -> list[int]:
    """Return `count` divided by `fractions`, by largest remainders; at least 1 for each above 0, if possible."""
    shares = [count * fraction for fraction in fractions]
    quotas = [int(share + 1e-9) for share in shares]
    for split in sorted(range(len(shares)), key=lambda one: quotas[one] - shares[one])[: count - sum(quotas)]:
        quotas[split] += 1
    for split, fraction in enumerate(fractions):
        if fraction and not quotas[split] and max(quotas) > 1:
            quotas[quotas.index(max(quotas))] -= 1
            quotas[split] = 1
    return quotas


def _hash(name: str, seed: int) -> str:
    return hashlib.sha256(f"{seed} {printable(name)}".encode()).hexdigest()


def _by_hash(name: str, rule: Rule) -> str:
    position = int(_hash(name, rule.seed)[:12], 16) / 16**12
    for split, fraction in zip(SPLITS, rule.fractions, strict=True):
        position -= fraction
        if position < 0:
            return split
    return SPLITS[0]


@dataclass(frozen=True)
class Wanted:
    """How a data set is to be split where it has no splits, and how errors name it."""

    place: str
    """The path of the data set."""
    without: Callable[[str], str]
    """Says that a split is missing."""
    split: list[float] | str | None
    """`data.split`"""
    seed: int

    @classmethod
    def of(cls, config: DataConfig, place: str, without: Callable[[str], str]) -> "Wanted":
        """Return what `config` asks for."""
        return cls(place, without, config.split, config.split_seed)

    @property
    def fractions(self) -> Sequence[float]:
        """Of train, validation and test."""
        return self.split if isinstance(self.split, list) else FRACTIONS

    def no_test(self, drawn: bool) -> str:
        """Return why there are no test images, and the way out."""
        if drawn:
            return f"{self._shown} leaves no test images. Set trainer.test=false, or a third fraction above 0"
        return f"{self.without('test')}. Set trainer.test=false, or take test images from train with {TAKEN}"

    def too_few(self, split: str, name: str, count: int) -> str:
        """Return the message for a class that `split` would lack."""
        return f"{self.place}: the class {name} has {count} images, and {self._shown} leaves none for {split}. {MORE}"

    @property
    def _shown(self) -> str:
        return f"data.split={shown(self.split if self.split is not None else list(FRACTIONS))}"


TAKEN = f"data.split={shown(list(FRACTIONS))}"
MORE = "Add images or groups of it, leave the class out, or choose other fractions"


def draw_splits(images: Sequence[Image], given: Sequence[str], wanted: Wanted) -> tuple[list[str], bool]:
    """Return the split of each image, and whether one was drawn; `given` has the split of each image, or is empty.

    Splits that are missing among the given ones are taken from train if `data.split` is set. The first split of a data
    set is kept for later runs. Raises DataError for a missing split, and for `data.split` where it has no effect.
    """
    found = set(given) - {""}
    missing = [split for split in SPLITS if split not in found]
    if found and "train" in missing:
        raise DataError(f"{wanted.without('train')}. Name the training images train")
    if not found or (missing and wanted.split is not None):
        taken = [index for index, split in enumerate(given) if split in ("", "train")]
        placed = _drawn([images[index] for index in taken], missing or list(SPLITS), wanted)
        splits = list(given)
        for index, split in zip(taken, placed, strict=True):
            splits[index] = split
        return splits, True
    if wanted.split is not None:
        raise DataError(f"data.split={shown(wanted.split)} has no effect: {wanted.place} has splits. Leave it out")
    if "validation" in missing:
        raise DataError(f"{wanted.without('validation')}. Add it, or take validation images from train with {TAKEN}")
    return list(given), False


def _drawn(images: Sequence[Image], missing: Sequence[str], wanted: Wanted) -> list[str]:
    """The split of each image: train, or one of the `missing`."""
    if isinstance(wanted.split, str):
        known = read_split(user_path(wanted.split))
        counts = Counter(known[printable(image.name)] for image in images if printable(image.name) in known)
        if not counts:
            raise DataError(f"data.split={wanted.split} names no image of {wanted.place}. Name another split.csv")
        return place(images, Rule([counts[split] / counts.total() for split in SPLITS], 0), known)
    shares = [
        share if split in ("train", *missing) else 0 for split, share in zip(SPLITS, wanted.fractions, strict=True)
    ]
    rule = Rule([share / sum(shares) for share in shares], wanted.seed)
    grouped = any(image.group != image.name for image in images)
    file = _kept_file(wanted.place, rule, grouped=grouped)
    if file.is_file():
        return place(images, rule, read_split(file))
    placed = place(images, rule, {})
    _keep(file, split_text(images, placed))
    return placed


def read_split(file: Path) -> dict[str, str]:
    """Return the split of each image in a `split.csv`; raises DataError for a file that is no such table."""
    try:
        rows = list(csv.reader(io.StringIO(file.read_text())))
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{file} cannot be read ({error}). Name the split.csv of a run with data.split") from error
    if not rows or rows[0] != HEADER or any(len(row) != 2 or row[1] not in SPLITS for row in rows[1:]):
        raise DataError(f"{file}: must have the columns image,split, with {', '.join(SPLITS)}. Name another file")
    return dict(rows[1:])


def split_text(images: Sequence[Image], splits: Sequence[str]) -> str:
    """Return the text of a `split.csv`."""
    return csv_text(HEADER, zip((printable(image.name) for image in images), splits, strict=True))


def _kept_file(what: str, rule: Rule, *, grouped: bool) -> Path:
    """Where the first split of the data set `what` is kept for later runs.

    It cannot be computed again once files were added, and is therefore not in the cache.
    """
    folder = user_path(os.environ.get("XDG_DATA_HOME") or "~/.local/share") / "beans_exp" / "splits"
    return folder / f"{printable(Path(what).stem)}-{text_digest((what, *rule.fractions, rule.seed, grouped))[:16]}.csv"


def _keep(file: Path, text: str) -> None:
    unfinished = file.with_name(f"{file.name}.{os.getpid()}{UNFINISHED}")  # of this process alone
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(text)
        unfinished.replace(file)
    except OSError as error:
        rule = "Choose another folder with XDG_DATA_HOME, or name the split.csv of a run with data.split"
        raise DataError(f"the split {file} cannot be written ({error.strerror}). {rule}") from error


def split_named(name: str) -> str | None:
    """Return the split that a data set calls `name`; None for another word."""
    word = name.strip().lower()
    return next((split for split, known in SPLIT_NAMES.items() if word in known), None)
