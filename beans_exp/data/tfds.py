"""Image classification sets of TFDS, prepared before or by TFDS now; the only module that imports TFDS."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from beans_exp.data.cache_folder import cache_root
from beans_exp.data.digests import file_digests
from beans_exp.data.image_files import UnreadableError
from beans_exp.data.source import SPLITS, Source, text_digest
from beans_exp.data.splitting import Image, Wanted, draw_splits, read_split, split_text
from beans_exp.data.tfds_copy import INFO, Copy, Shards, find_copy, prepare_again, read_copy
from beans_exp.errors import DataError, first_line
from beans_exp.files import user_path
from beans_exp.locks import locked
from beans_exp.network import why_unreachable
from beans_exp.schema import DataConfig

if TYPE_CHECKING:
    import numpy as np

    from beans_exp.data.images import Opener
    from beans_exp.data.pixels import Pixels

BEANS = "beans:0.1.0"
"""What `data=beans` names."""
HOST = "storage.googleapis.com"
"""The host that TFDS downloads `beans` from, and prepared copies of other sets."""


def tfds_source(dataset: str, config: DataConfig) -> Source:
    """Describe the prepared copy of `dataset`, NAME:VERSION, which TFDS prepares first if none exists.

    Raises DataError for a copy with missing files, for a set without images and labels, and, within seconds, if neither
    a copy nor the network is available.
    """
    root = user_path(config.data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")
    folder = find_copy(root, dataset)
    if not (folder / INFO).is_file():
        _require_network(dataset, folder)
        folder = _download(dataset, root)
    copy = read_copy(folder, root, SPLITS if config.name == "beans" else ())
    digest = _digest(copy, config)
    wanted = Wanted.of(config, dataset, lambda split: f"{folder / INFO} lists no {split} split")
    lacks_some = "train" in copy.splits and set(copy.splits) != set(SPLITS)
    if lacks_some and (len(copy.splits) == 1 or config.split is not None):
        return _Drawn(copy, wanted).source(digest)
    draw_splits([], list(copy.splits), wanted)  # refuses splits that are missing
    return Source(
        copy.dataset.replace("/", "-"),
        copy.version,
        digest,
        copy.classes,
        partial(_read, copy),
        {split: sum(files.values()) for split, files in copy.shards.items()},
        copy.record_names,
        decoder="tensorflow",
        no_test="" if "test" in copy.splits else wanted.no_test(drawn=False),
    )


def _digest(copy: Copy, config: DataConfig) -> str:
    """The hash of the record files: their names and contents."""
    names = sorted(file.name for files in copy.shards.values() for file in files)
    memory = cache_root(config.cache_dir) / "digests" / f"{text_digest((str(copy.folder),))[:16]}.jsonl"
    unread: list[UnreadableError] = []
    total = hashlib.sha256()
    for name, content in file_digests(copy.folder, names, memory, unread):
        total.update(f"{name} {content}\n".encode())
    if unread:
        raise DataError(f"{unread[0].file} cannot be read ({unread[0].reason}). {prepare_again(copy.folder)}")
    return total.hexdigest()


class _Drawn:
    """A set that lacks splits: those are taken from train. Labels are read once images are asked for."""

    def __init__(self, copy: Copy, wanted: Wanted) -> None:
        self.copy = copy
        self.wanted = wanted
        self.kept = [split for split in copy.splits if split != "train"]

    def source(self, digest: str) -> Source:
        """Describe the set; its splits follow from its content, fractions and seed, or from a file of splits."""
        copy, wanted = self.copy, self.wanted
        split = wanted.split
        rule = (
            sorted(read_split(user_path(split)).items()) if isinstance(split, str) else (*wanted.fractions, wanted.seed)
        )
        digest = text_digest((digest, *rule))
        has_test = "test" in self.kept or wanted.fractions[2] > 0
        return Source(
            copy.dataset.replace("/", "-"),
            copy.version,
            digest,
            copy.classes,
            self.read,
            {split: sum(copy.shards[split].values()) for split in self.kept},
            lambda split: (
                copy.record_names(split) if split in self.kept else [image.name for image in self.images(split)]
            ),
            decoder="tensorflow",
            no_test="" if has_test else wanted.no_test(drawn=True),
            split_csv=lambda: split_text(self.records, self.splits),
        )

    @cached_property
    def records(self) -> list[Image]:
        """The images of train."""
        named = zip(self.copy.record_names("train"), _labels(self.copy), strict=True)
        return [Image(name, label, name) for name, label in named]

    @cached_property
    def splits(self) -> list[str]:
        """The split of each of `records`; raises DataError for a class that a split would lack."""
        given = [*("train" if self.kept else "" for _ in self.records), *self.kept]
        images = [*self.records, *(Image(split, -1, split) for split in self.kept)]  # one for all of another split
        splits = draw_splits(images, given, self.wanted)[0][: len(self.records)]
        for label, name in enumerate(self.copy.classes):
            found = Counter(split for image, split in zip(self.records, splits, strict=True) if image.label == label)
            for split in self._expected(splits) - set(found):
                raise DataError(self.wanted.too_few(split, name, found.total()))
        return splits

    def _expected(self, splits: list[str]) -> set[str]:
        """The splits that images of train are needed for."""
        if isinstance(self.wanted.split, str):
            return set(splits)
        shares = zip(SPLITS, self.wanted.fractions, strict=True)
        return {split for split, share in shares if share and split not in self.kept}

    def images(self, split: str) -> list[Image]:
        """Return the images of train that are taken for `split`."""
        return [image for image, found in zip(self.records, self.splits, strict=True) if found == split]

    def read(self, split: str) -> "Iterator[tuple[np.ndarray | Opener, int]]":
        """Yield the images of `split`; those of train are decoded by the caller."""
        if split in self.kept:
            yield from _read(self.copy, split)
            return
        channels = self.copy.channels
        for (content, label), found in zip(_records(self.copy, "train", decoded=False), self.splits, strict=True):
            if found == split:
                yield partial(_decode, self.copy, content, channels), label


def _labels(copy: Copy) -> list[int]:
    return [label for _, label in _records(copy, "train", decoded=False)]


def _decode(copy: Copy, content: bytes, channels: int, pixels: "Pixels") -> "np.ndarray":
    import tensorflow as tf

    try:
        return _as_rgb(tf.io.decode_image(content, channels=channels).numpy(), pixels)
    except tf.errors.OpError as error:
        raise _damaged(copy, "train", error) from error


def _read(copy: Copy, split: str) -> "Iterator[tuple[np.ndarray | Opener, int]]":
    for image, label in _records(copy, split, decoded=True):
        yield (image if image.shape[2] == 3 else partial(_as_rgb, image)), label


def _as_rgb(image: "np.ndarray", pixels: "Pixels") -> "np.ndarray":
    """Return `image` uint8 (H, W, 1, 3 or 4) as (H, W, 3), composed on the background where it is transparent."""
    import numpy as np

    if image.shape[2] < 4:
        return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image
    alpha = image[..., 3:] / 255
    return np.rint(image[..., :3] * alpha + np.array(pixels.background) * (1 - alpha)).astype(np.uint8)


def _records(copy: Copy, split: str, *, decoded: bool) -> Iterator[tuple[Any, int]]:
    """Yield image, an array or the bytes of a file, and label of each record of a split."""
    import tensorflow_datasets as tfds

    from beans_exp.data.batches import without_autotune

    try:
        dataset = tfds.load(
            f"{copy.dataset}:{copy.version}",
            split=copy.splits[split],
            data_dir=copy.folder.parents[copy.dataset.count("/") + 1],
            as_supervised=True,
            download=False,
            read_config=tfds.ReadConfig(try_autocache=False),  # it would keep every decoded image in memory
            decoders=None if decoded else {copy.image: tfds.decode.SkipDecoding()},
        )
        for image, label in without_autotune(dataset).as_numpy_iterator():
            if label < 0:
                raise DataError(
                    f"{copy.dataset}: images of the {split} split have no class. Choose another data.dataset"
                )
            yield image, int(label)
    except DataError:
        raise
    except Exception as error:  # TFDS and TensorFlow raise many types for damaged files
        raise _damaged(copy, split, error) from error


def _damaged(copy: Copy, split: str, error: Exception) -> DataError:
    damaged = _first_damaged(copy.shards[split], copy.image) or copy.folder
    return DataError(f"{damaged} cannot be read ({first_line(error)}). {prepare_again(copy.folder)}")


def _first_damaged(shards: Shards, image: str) -> Path | None:
    """The first record file that cannot be read and decoded completely, or holds too few images."""
    import tensorflow as tf

    from beans_exp.data.batches import without_autotune

    content = {image: tf.io.FixedLenFeature((), tf.string)}
    for file, length in shards.items():
        read = 0
        try:
            for record in without_autotune(tf.data.TFRecordDataset(str(file))):
                tf.io.decode_image(tf.io.parse_single_example(record, content)[image])
                read += 1
        except tf.errors.OpError:
            return file
        if read != length:
            return file
    return None


def _require_network(dataset: str, folder: Path) -> None:
    if cause := why_unreachable(HOST):
        name = dataset.partition(":")[0]
        raise DataError(f"no prepared {name} in {folder}, and {HOST} is unreachable ({cause}). {_hint(dataset)}")


def _download(dataset: str, root: Path) -> Path:
    """Let TFDS prepare `dataset`, and return its folder."""
    import tensorflow_datasets as tfds

    name = dataset.partition(":")[0]
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = root / f"{name.replace('/', '-')}.lock"  # of two runs, the second finds the first one's copy
        with locked(lock, f"is preparing {name}"):
            builder = tfds.builder(dataset, data_dir=root)
            builder.download_and_prepare()
            return Path(builder.data_dir)
    except Exception as error:  # TFDS raises many types for failed downloads
        raise DataError(f"TFDS could not prepare {name} in {root}: {first_line(error)}. {_hint(dataset)}") from error


def _hint(dataset: str) -> str:
    return (
        "Use data=synthetic, which needs no download, or set TFDS_DATA_DIR (or data.data_dir) to a folder that "
        f"contains {dataset.replace(':', '/')}, prepared by TFDS on a machine with network access"
    )
