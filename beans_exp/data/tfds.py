"""TFDS `beans`, read from a prepared copy or downloaded by TFDS; the only module that imports TFDS."""

import json
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from beans_exp.data.source import SPLITS, Source, files_digest
from beans_exp.errors import DataError
from beans_exp.files import user_path
from beans_exp.locks import locked
from beans_exp.network import why_unreachable

if TYPE_CHECKING:
    import numpy as np

VERSION = "0.1.0"
HOST = "storage.googleapis.com"
"""The host that TFDS downloads `beans` from."""
HINT = (
    "Use data=synthetic, which needs no download, or set TFDS_DATA_DIR (or data.data_dir) to a folder that contains "
    f"beans/{VERSION}, prepared by TFDS on a machine with network access"
)

Shards = dict[Path, int]
"""The record files of a split, in order, with the number of images in each."""


def beans_source(data_dir: str | None) -> Source:
    """Describe the prepared copy of `beans`, downloading it first if none exists.

    Raises DataError for a copy with missing files and, within seconds, if neither a copy nor the network is available.
    """
    root = _tfds_root(data_dir)
    folder = root / "beans" / VERSION
    if not (folder / "dataset_info.json").is_file():
        _require_network(folder)
        _download(root)
    shards = _shards(folder)
    digest = files_digest(folder, [file for files in shards.values() for file in files])
    counts = {split: sum(files.values()) for split, files in shards.items()}
    return Source("beans", VERSION, digest, _classes(folder), partial(_read, folder, shards), counts)


def _tfds_root(data_dir: str | None) -> Path:
    return user_path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")


def _shards(folder: Path) -> dict[str, Shards]:
    """The record files that dataset_info.json lists for each split."""
    info = folder / "dataset_info.json"
    try:
        lengths = {split["name"]: split["shardLengths"] for split in json.loads(info.read_text())["splits"]}
        return {split: _record_files(folder, split, [int(length) for length in lengths[split]]) for split in SPLITS}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{info} is damaged ({error!r}). {_prepare_again(folder)}") from error


def _record_files(folder: Path, split: str, lengths: list[int]) -> Shards:
    files = {
        folder / f"beans-{split}.tfrecord-{number:05d}-of-{len(lengths):05d}": length
        for number, length in enumerate(lengths)
    }
    for file in files:
        if not file.is_file():
            raise DataError(f"{file} is missing. {_prepare_again(folder)}")
    return files


def _classes(folder: Path) -> tuple[str, ...]:
    file = folder / "label.labels.txt"
    try:
        return tuple(file.read_text().split())
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read ({error}). {_prepare_again(folder)}") from error


def _prepare_again(folder: Path) -> str:
    return f"Remove {folder} and let TFDS prepare it again, or copy it again from an intact copy"


def _require_network(folder: Path) -> None:
    if cause := why_unreachable(HOST):
        raise DataError(f"no prepared beans in {folder}, and {HOST} is unreachable ({cause}). {HINT}")


def _download(root: Path) -> None:
    import tensorflow_datasets as tfds

    try:
        root.mkdir(parents=True, exist_ok=True)
        with locked(root / "beans.lock", "is downloading beans"):  # afterwards, the second of two finds a copy
            tfds.builder(f"beans:{VERSION}", data_dir=root).download_and_prepare()
    except Exception as error:  # TFDS raises many types for failed downloads
        raise DataError(f"TFDS could not prepare beans in {root}: {_first_line(error)}. {HINT}") from error


def _read(folder: Path, shards: dict[str, Shards], split: str) -> "Iterator[tuple[np.ndarray, int]]":
    import tensorflow_datasets as tfds

    from beans_exp.data.batches import without_autotune

    root = folder.parent.parent
    config = tfds.ReadConfig(try_autocache=False)  # it would keep every decoded image in memory
    try:
        dataset = tfds.load(
            f"beans:{VERSION}", split=split, data_dir=root, as_supervised=True, download=False, read_config=config
        )
        for image, label in without_autotune(dataset).as_numpy_iterator():
            yield image, int(label)
    except Exception as error:  # TFDS and TensorFlow raise many types for damaged files
        damaged = _first_damaged(shards[split]) or folder
        raise DataError(f"{damaged} cannot be read ({_first_line(error)}). {_prepare_again(folder)}") from error


def _first_damaged(shards: Shards) -> Path | None:
    """The first record file that cannot be read and decoded completely, or holds too few images."""
    import tensorflow as tf

    from beans_exp.data.batches import without_autotune

    content = {"image": tf.io.FixedLenFeature((), tf.string)}
    for file, length in shards.items():
        read = 0
        try:
            for record in without_autotune(tf.data.TFRecordDataset(str(file))):
                tf.io.decode_image(tf.io.parse_single_example(record, content)["image"])
                read += 1
        except tf.errors.OpError:
            return file
        if read != length:
            return file
    return None


def _first_line(error: Exception) -> str:
    return (str(error).strip() or repr(error)).splitlines()[0][:200]
