"""Activations of frozen layers, computed once for each image and shared on disk by all runs and processes.

An entry holds the activations of one split at one cut. It is named by the hash of everything that determines it, is
complete or absent (`files.make_once`), and is computed from the nearest cached cut below it.
"""

import logging
import math
import os
import time
import zlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import BinaryIO

import keras
import numpy as np
import tensorflow as tf

from beans_exp.data import Data, Split
from beans_exp.data.augmentation import apply_version, are_countable, versions
from beans_exp.data.batches import ordered_batches
from beans_exp.data.cache_folder import cache_root
from beans_exp.data.prepared import PREPARED_VERSION
from beans_exp.data.source import text_digest
from beans_exp.files import DamagedError, FormatError, make_once, measure, read_json, remove, user_path, write_json
from beans_exp.fingerprint import hashed_values
from beans_exp.models.backbone import Cut, between
from beans_exp.models.graph import inference_function
from beans_exp.schema import Config
from beans_exp.terminal import progress

FEATURES_VERSION = 2
"""Raised by hand when the code changes the activations; another layout is recognized by the keys of `entry.json`."""
BATCH_SIZE = 32

HEAD = "head-{}.npz"
"""The file name of a trained head beside its activations (`head_cache`)."""

log = logging.getLogger("beans_exp")


def features_folder(config: Config) -> Path:
    """Return the folder of cached activations and heads, and create it."""
    folder = user_path(config.features.dir) if config.features.dir else cache_root(None) / "features"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def make_room(root: Path, max_gb: float, keep: Path) -> None:
    """Remove the least recently used entries and heads of the folder `root`, except `keep`, until it fits `max_gb`."""
    entries = [*(file.parent for file in root.glob("*/entry.json")), *root.glob(HEAD.format("*"))]
    found = {entry: facts for entry in entries if (facts := _size_and_use(entry))}
    room = max_gb * 1e9
    for entry in sorted(found, key=lambda entry: (entry == keep, found[entry][1]), reverse=True):
        room -= found[entry][0]
        if room < 0 and entry != keep:
            log.info("removing %s from the cache of frozen layers (features.max_gb)", entry.name)
            remove(entry)


def _size_and_use(entry: Path) -> tuple[int, float] | None:
    """The bytes of an entry and the time of its last use, or None if another process has just removed it."""
    try:
        return (entry / "activations" if entry.is_dir() else entry).stat().st_size, entry.stat().st_mtime
    except FileNotFoundError:
        return None


@dataclass(frozen=True)
class Features:
    """Activations at a cut, used in place of images."""

    train: list[Split]
    """The training split in each of its versions under flips and quarter turns."""
    validation: Split
    costs: dict[str, float]
    """Seconds that each entry they depend on took to compute."""


def frozen_features(model: keras.Model, data: Data, config: Config, blocks: int) -> Features | None:
    """Return the activations below the top `blocks` blocks, or None if each epoch has to run the whole model.

    That is so without a pre-trained base, with `features.cache=off`, without frozen layers, with augmentation that has
    no finite set of versions, and, with a warning, if the disk is full.
    """
    cut = Cut.below(model, blocks) if config.model.pretrained else None
    if cut is None or cut.name == "image" or config.features.cache == "off":
        return None
    if not are_countable(config.reg.augment):
        log.info("reg.augment is random: frozen layers cannot be cached and run in every epoch")
        return None
    try:
        cache = ActivationCache(model, config, data)
        train = [cache.activations(SplitVersion("train", version), cut) for version in versions(config.reg.augment)]
        validation = cache.activations(SplitVersion("validation"), cut)
    except OSError as error:
        log.warning("frozen layers are not cached (%s): they run in every epoch", error)
        return None
    costs = {name: seconds for _, entry in [*train, validation] for name, seconds in entry.items()}
    return Features([split for split, _ in train], validation[0], costs)


@dataclass(frozen=True)
class SplitVersion:
    """A split with one of `versions` applied to its images: an entry holds the activations of one."""

    split: str
    version: tuple[bool, bool, bool] = (False, False, False)

    @property
    def name(self) -> str:
        """`train`, or `train-110` for its images transposed and with their rows reversed."""
        return "-".join([self.split, *(["".join(str(int(bit)) for bit in self.version)] if any(self.version) else [])])


@dataclass(frozen=True)
class _Entry:
    """The content of `entry.json`, which describes a file of activations."""

    shape: list[int]
    dtype: str
    checksum: int
    costs: dict[str, float]
    """Seconds by the name of each entry that was computed for this one, including itself."""

    @classmethod
    def read(cls, folder: Path) -> "_Entry":
        """Raise FormatError for an entry with other keys, and DamagedError or OSError for a damaged one."""
        content = read_json(folder / "entry.json")
        if content.keys() != {field.name for field in fields(cls)}:
            raise FormatError("was written by another version of beans_exp")
        return cls(**content)

    def require_intact(self, file: Path) -> None:
        """Raise DamagedError unless `file` holds the activations that were written, and OSError if it is missing."""
        with file.open("rb") as stream:
            if measure(stream) != (math.prod(self.shape) * np.dtype(self.dtype).itemsize, self.checksum):
                raise DamagedError("its checksum differs")


class _ActivationsWriter:
    """Writes batches of activations to a file in a second thread, while the next batch is computed."""

    def __init__(self, file: BinaryIO, thread: ThreadPoolExecutor) -> None:
        self.file = file
        self.thread = thread
        self.checksum = 0
        self.writing: Future[None] | None = None

    def add(self, activations: tf.Tensor) -> None:
        """Start to write `activations`, once the batch before is written."""
        self.finish()
        self.writing = self.thread.submit(self._write, activations)

    def finish(self) -> None:
        """Wait for the last batch; raise the error of its thread."""
        if self.writing:
            self.writing.result()

    def _write(self, activations: tf.Tensor) -> None:
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
        hashed = [(key, value) for key, value in hashed_values(config) if key.startswith("model.")]
        self.base = [(key, value) for key, value in hashed if key != "model.top_block"]
        self.segments: dict[tuple[Cut, Cut], Callable[[np.ndarray], tf.Tensor]] = {}
        self.verified: set[Path] = set()
        """Entries that this object verified or wrote: their checksums are not computed again."""

    def activations(self, images: SplitVersion, cut: Cut) -> tuple[Split, dict[str, float]]:
        """Return the activations of `images` at `cut` and their costs.

        If they have to be computed, the lower cuts that the sweep needs are computed first.
        """
        found = self.load(images, cut)
        for planned in () if found else self._planned_cuts(cut):
            found = self.load(images, planned) or self._compute(images, planned)
        assert found is not None
        return found

    def _planned_cuts(self, cut: Cut) -> list[Cut]:
        """The cuts that this run and its sweep need, bottom up to `cut`: each is computed from the one below it."""
        order = Cut.bottom_up(self.model)
        depths = {*self.config.features.blocks, self.config.finetune.blocks}
        planned = {Cut.below(self.model, blocks) for blocks in depths if blocks}
        return [lower for lower in order[: order.index(cut)] if lower in planned and lower.name != "image"] + [cut]

    def _folder(self, images: SplitVersion, cut: Cut) -> Path:
        data = self.config.data
        name = f"{self.config.model.top_block}-pooled" if cut.name == "pooling" else cut.name
        drawn = (data.train_fraction, self.config.seed) if data.train_fraction < 1 and images.split == "train" else ()
        source = (self.data.source.digest, images.name, data.image_size, *self.data.pixels.changes(), *drawn)
        inputs = (FEATURES_VERSION, PREPARED_VERSION, self.base, *source)
        software = tuple(version(name) for name in ("keras", "tensorflow"))
        key = text_digest((*inputs, name, keras.config.dtype_policy().name, *software))
        return self.root / f"{name}-{images.name}-{key[:16]}"

    def load(self, images: SplitVersion, cut: Cut) -> tuple[Split, dict[str, float]] | None:
        """Return a cached entry and mark it as the most recently used; None if it is missing or unusable."""
        folder = self._folder(images, cut)
        if not folder.is_dir() or self._problem(folder):
            return None
        entry = _Entry.read(folder)
        array = np.memmap(folder / "activations", np.dtype(entry.dtype), "r", shape=tuple(entry.shape))
        os.utime(folder)
        split = Split(array, getattr(self.data, images.split).labels)
        split.release()
        return split, entry.costs

    def _problem(self, folder: Path) -> str:
        """Why an entry cannot be used; empty if it is as it was written."""
        if folder in self.verified:
            return ""
        try:
            _Entry.read(folder).require_intact(folder / "activations")
        except FormatError as error:
            return str(error)
        except Exception as error:  # whatever a damaged `entry.json` of a version without checksums leads to
            return f"is damaged ({error})"
        self.verified.add(folder)
        return ""

    def _is_usable(self, folder: Path) -> bool:
        """Whether an entry is as it was written; else log why it is about to be computed again."""
        if problem := self._problem(folder):
            log.warning("%s %s: removed; its activations are computed again", folder, problem)
        return not problem

    def _compute(self, images: SplitVersion, cut: Cut) -> tuple[Split, dict[str, float]]:
        """Compute an entry, unless another process does so first, and return it."""
        folder = self._folder(images, cut)
        if make_once(folder, partial(self._write, images, cut), is_usable=self._is_usable):
            self.verified.add(folder)
            make_room(self.root, self.config.features.max_gb, keep=folder)
        found = self.load(images, cut)
        if found is None:
            raise OSError(f"{folder} cannot be read back")
        return found

    def _write(self, images: SplitVersion, cut: Cut, folder: Path) -> None:
        started = time.perf_counter()
        below, split, costs = self._nearest_cached(images, cut)
        segment = self._segment(below, cut)
        title = f"frozen layers: {images.name} images to {cut.name}"
        batches = progress(ordered_batches(split, BATCH_SIZE), title, len(split) // BATCH_SIZE + 1)
        folder.mkdir()
        with (folder / "activations").open("wb") as file, ThreadPoolExecutor(1) as thread:
            writer = _ActivationsWriter(file, thread)
            for batch, _ in batches:
                batch = apply_version(batch.numpy(), images.version) if below.name == "image" else batch
                activations = segment(batch)
                writer.add(activations)
            writer.finish()
        costs |= {self._folder(images, cut).name: time.perf_counter() - started}
        entry = _Entry([len(split), *activations.shape[1:]], activations.dtype.name, writer.checksum, costs)
        write_json(folder / "entry.json", asdict(entry))

    def _segment(self, below: Cut, cut: Cut) -> Callable[[np.ndarray], tf.Tensor]:
        """The layers between two cuts, traced once for batches of any size."""
        if (below, cut) not in self.segments:
            self.segments[below, cut] = inference_function(between(self.model, below, cut))
        return self.segments[below, cut]

    def _nearest_cached(self, images: SplitVersion, cut: Cut) -> tuple[Cut, Split, dict[str, float]]:
        """The nearest cached cut below `cut`, or else the images, with their costs."""
        order = Cut.bottom_up(self.model)
        for lower in reversed(order[1 : order.index(cut)]):
            if (found := self.load(images, lower)) is not None:
                return lower, *found
        return order[0], getattr(self.data, images.split), {}
