"""Frozen layers, computed once for each image and kept on disk, shared by all runs and processes.

An entry holds the activations of one split at one cut. It is named by what decides it, appears whole or not at all
(written under a temporary name, then renamed, under a lock), and is computed from the nearest cut below that is there.
"""

import json
import logging
import os
import shutil
import time
import zlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import BinaryIO

import keras
import numpy as np
import tensorflow as tf
from filelock import FileLock

from beans_exp.data import Data
from beans_exp.data.augmentation import are_countable, in_version, versions
from beans_exp.data.batches import ordered_batches
from beans_exp.data.prepared import PREPARED_VERSION, Split, cache_root
from beans_exp.data.source import text_digest
from beans_exp.files import user_path
from beans_exp.models.backbone import Cut, between
from beans_exp.models.graph import once_traced
from beans_exp.models.weights import weights_digest
from beans_exp.schema import Config
from beans_exp.terminal import progress

FEATURES_VERSION = 2
"""Raised by hand when activations or the files' layout change."""
BATCH = 32
"""Images computed at once."""

HEAD = "head-{}.npz"
"""The name of a head that was trained on activations, beside them: `heads`."""

log = logging.getLogger("beans_exp")


def features_folder(config: Config) -> Path:
    """Return the folder of all that is computed once, and make it."""
    folder = user_path(config.features.dir) if config.features.dir else cache_root(None) / "features"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def make_room(root: Path, max_gb: float, keep: Path) -> None:
    """Remove the least recently used entries and heads of the folder `root`, but for `keep`, until it fits `max_gb`."""
    entries = [*(file.parent for file in root.glob("*/entry.json")), *root.glob(HEAD.format("*"))]
    found = {entry: size for entry in entries if (size := _size_and_use(entry))}
    room = max_gb * 1e9
    for entry in sorted(found, key=lambda entry: (entry == keep, found[entry][1]), reverse=True):
        room -= found[entry][0]
        if room < 0 and entry != keep:
            log.info("%s makes room in the cache of frozen layers (features.max_gb)", entry.name)
            shutil.rmtree(entry, ignore_errors=True) if entry.is_dir() else entry.unlink(missing_ok=True)


def _size_and_use(entry: Path) -> tuple[int, float] | None:
    """The bytes of an entry and when it was used last, or None where another process has just removed it."""
    try:
        return (entry / "activations" if entry.is_dir() else entry).stat().st_size, entry.stat().st_mtime
    except FileNotFoundError:
        return None


@dataclass(frozen=True)
class Features:
    """Activations at a cut in place of images, and what each entry that they rest on cost, in seconds, when made."""

    train: list[Split]
    """The training split in each of the versions that flips and quarter turns make of it."""
    validation: Split
    costs: dict[str, float]


def frozen_features(model: keras.Model, data: Data, config: Config, blocks: int) -> Features | None:
    """Return the activations under the top `blocks` blocks, or None where each epoch has to pass the whole model.

    None without a pre-trained base, with `features.cache=off`, with nothing frozen, where augmentation makes ever
    new images, and, with a warning, where the disk is full.
    """
    cut = Cut.below(config.model, blocks) if config.model.pretrained else None
    if cut is None or cut.name == "image" or config.features.cache == "off":
        return None
    if not are_countable(config.reg.augment):
        log.info("reg.augment makes ever new images: frozen layers are computed anew in each epoch")
        return None
    try:
        cache = ActivationCache(model, config, data)
        made = [cache.activations(Part("train", version), cut) for version in versions(config.reg.augment)]
        validation = cache.activations(Part("validation"), cut)
    except OSError as error:
        log.warning("frozen layers are not cached (%s): each epoch computes them anew", error)
        return None
    costs = {name: seconds for _, entry in [*made, validation] for name, seconds in entry.items()}
    return Features([train for train, _ in made], validation[0], costs)


@dataclass(frozen=True)
class Part:
    """What an entry holds the activations of: a split, in one version of its images."""

    split: str
    version: tuple[bool, bool, bool] = (False, False, False)

    @property
    def name(self) -> str:
        """`train`, or `train-110` for its images transposed with their rows reversed."""
        return "-".join([self.split, *(["".join(str(int(bit)) for bit in self.version)] if any(self.version) else [])])


@dataclass(frozen=True)
class _Entry:
    """What an entry's `entry.json` says of its file of activations."""

    shape: list[int]
    dtype: str
    checksum: int
    costs: dict[str, float]
    """Seconds by the name of each entry that was computed for this one, its own included."""


@dataclass
class _Written:
    """A file of activations while it is written."""

    file: BinaryIO
    checksum: int = 0

    def add(self, activations: tf.Tensor) -> None:
        content = memoryview(tf.bitcast(activations, tf.uint8))  # `numpy()` would copy
        self.checksum = zlib.crc32(content, self.checksum)
        self.file.write(content)


class ActivationCache:
    """The activations of one base on one data set."""

    def __init__(self, model: keras.Model, config: Config, data: Data) -> None:
        self.model = model
        self.config = config
        self.data = data
        self.root = features_folder(config)
        self.weights = weights_digest(config.model)
        self.parts: dict[tuple[Cut, Cut], Callable[[np.ndarray], tf.Tensor]] = {}
        self.whole: set[Path] = set()
        """Entries that were found whole, or written, in this stage: their checksums are not computed again."""

    def activations(self, part: Part, cut: Cut) -> tuple[Split, dict[str, float]]:
        """Return `part` at `cut` and its costs; to compute it, the lower cuts that the sweep needs come first."""
        found = self._load(part, cut)
        for wanted in () if found else self._wanted(cut):
            found = self._load(part, wanted) or self._compute_once(part, wanted)
        assert found is not None
        return found

    def _wanted(self, cut: Cut) -> list[Cut]:
        """The cuts that this run and its sweep need, bottom up to `cut`: each is computed from the one before."""
        order = Cut.bottom_up(self.config.model)
        depths = {*self.config.features.blocks, self.config.finetune.blocks}
        planned = {Cut.below(self.config.model, blocks) for blocks in depths if blocks}
        return [lower for lower in order[: order.index(cut)] if lower in planned and lower.name != "image"] + [cut]

    def _folder(self, part: Part, cut: Cut) -> Path:
        data = self.config.data
        name = f"{self.config.model.top_block}-pooled" if cut.name == "pooling" else cut.name
        drawn = (data.train_fraction, self.config.seed) if data.train_fraction < 1 and part.split == "train" else ()
        images = (self.data.source.digest, part.name, data.image_size, *drawn)
        what = (FEATURES_VERSION, PREPARED_VERSION, self.weights, *images)
        software = tuple(version(name) for name in ("keras", "tensorflow"))
        key = text_digest((*what, name, keras.config.dtype_policy().name, *software))
        return self.root / f"{name}-{part.name}-{key[:16]}"

    def _load(self, part: Part, cut: Cut) -> tuple[Split, dict[str, float]] | None:
        """Return a whole entry, which is then the most recently used, or None; a damaged one is removed."""
        folder = self._folder(part, cut)
        if not folder.is_dir():
            return None
        try:
            entry = _Entry(**json.loads((folder / "entry.json").read_text()))
            array = np.memmap(folder / "activations", np.dtype(entry.dtype), "r", shape=tuple(entry.shape))
            if folder not in self.whole and zlib.crc32(array.view(np.uint8).data) != entry.checksum:
                raise ValueError("its checksum differs")
        except (OSError, ValueError, TypeError) as error:
            log.warning("%s is damaged (%s): computed again", folder, error)
            shutil.rmtree(folder, ignore_errors=True)
            return None
        self.whole.add(folder)
        os.utime(folder)
        found = Split(array, getattr(self.data, part.split).labels)
        found.release()
        return found, entry.costs

    def _compute_once(self, part: Part, cut: Cut) -> tuple[Split, dict[str, float]]:
        folder = self._folder(part, cut)
        with FileLock(f"{folder}.lock"):
            if (found := self._load(part, cut)) is not None:  # another process was faster
                return found
            unfinished = folder.with_suffix(".unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)  # left by a process that was killed
            unfinished.mkdir()
            try:
                self._write(part, cut, unfinished)
                unfinished.rename(folder)
                self.whole.add(folder)
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
        make_room(self.root, self.config.features.max_gb, keep=folder)
        found = self._load(part, cut)
        if found is None:
            raise OSError(f"{folder} cannot be read back")
        return found

    def _write(self, part: Part, cut: Cut, folder: Path) -> None:
        started = time.perf_counter()
        below, images, costs = self._nearest(part, cut)
        lower = self._lower(below, cut)
        batches = ordered_batches(images, BATCH)
        title = f"frozen layers: {part.name} images to {cut.name}"
        with (folder / "activations").open("wb") as file, ThreadPoolExecutor(1) as writer:
            written = _Written(file)
            writing: Future[None] | None = None
            for batch, _ in progress(batches, title, len(images) // BATCH + 1):
                batch = in_version(batch.numpy(), part.version) if below.name == "image" else batch
                sample = lower(batch)
                if writing:
                    writing.result()
                writing = writer.submit(written.add, sample)  # while the next batch is computed
            if writing:
                writing.result()
        costs |= {self._folder(part, cut).name: time.perf_counter() - started}
        entry = _Entry([len(images), *sample.shape[1:]], sample.dtype.name, written.checksum, costs)
        (folder / "entry.json").write_text(json.dumps(asdict(entry)))

    def _lower(self, below: Cut, cut: Cut) -> Callable[[np.ndarray], tf.Tensor]:
        """The layers between two cuts, traced once for batches of any size."""
        if (below, cut) not in self.parts:
            self.parts[below, cut] = once_traced(between(self.model, below, cut))
        return self.parts[below, cut]

    def _nearest(self, part: Part, cut: Cut) -> tuple[Cut, Split, dict[str, float]]:
        """The nearest cut below that is in the cache, or the images themselves, and what it cost."""
        order = Cut.bottom_up(self.config.model)
        for lower in reversed(order[1 : order.index(cut)]):
            if (found := self._load(part, lower)) is not None:
                return lower, *found
        return order[0], getattr(self.data, part.split), {}
