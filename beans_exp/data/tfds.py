"""TFDS `beans`, from a prepared copy or by TFDS's own download; the one module that says `tfds`."""

import json
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from filelock import FileLock

from beans_exp.data.source import SPLITS, Source, files_digest
from beans_exp.errors import DataError
from beans_exp.files import user_path
from beans_exp.network import why_unreachable

VERSION = "0.1.0"
HOST = "storage.googleapis.com"
"""Where TFDS downloads `beans` from."""
WAYS_OUT = (
    "Ways out: data=synthetic needs no download; or set TFDS_DATA_DIR (or data.data_dir) to a folder that holds "
    f"beans/{VERSION}, prepared by TFDS on a machine with a network"
)

Shards = dict[Path, int]
"""The record files of a split, in order, and how many images each holds."""


def beans_source(data_dir: str | None) -> Source:
    """Find the prepared `beans`, downloading it first where there is none.

    Raises DataError for a copy with missing files and, within seconds, where there is neither a copy nor a network.
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
    """What dataset_info.json promises of each split."""
    info = folder / "dataset_info.json"
    try:
        lengths = {split["name"]: split["shardLengths"] for split in json.loads(info.read_text())["splits"]}
        return {split: _record_files(folder, split, [int(length) for length in lengths[split]]) for split in SPLITS}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{info} is damaged ({error!r}). {_prepare_again(folder)}") from error


def _record_files(folder: Path, split: str, lengths: list[int]) -> Shards:
    files = {
        folder / f"beans-{split}.tfrecord-{place:05d}-of-{len(lengths):05d}": length
        for place, length in enumerate(lengths)
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
    return f"Remove {folder} and let TFDS prepare it again, or copy it again from where it is whole"


def _require_network(folder: Path) -> None:
    if cause := why_unreachable(HOST):
        raise DataError(f"no prepared beans in {folder}, and {HOST} is not reached ({cause}). {WAYS_OUT}")


def _download(root: Path) -> None:
    import tensorflow_datasets as tfds

    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / "beans.lock"):  # two runs may start at once; the second finds the first one's copy
            tfds.builder(f"beans:{VERSION}", data_dir=root).download_and_prepare()
    except Exception as error:  # TFDS raises many types, all of them for a download that failed
        raise DataError(f"TFDS could not prepare beans in {root}: {_first_line(error)}. {WAYS_OUT}") from error


def _read(folder: Path, shards: dict[str, Shards], split: str) -> Iterator[tuple[np.ndarray, int]]:
    import tensorflow_datasets as tfds

    from beans_exp.data.batches import untuned

    root = folder.parent.parent
    config = tfds.ReadConfig(try_autocache=False)  # it would hold every decoded image in memory
    try:
        dataset = tfds.load(
            f"beans:{VERSION}", split=split, data_dir=root, as_supervised=True, download=False, read_config=config
        )
        for image, label in untuned(dataset).as_numpy_iterator():
            yield image, int(label)
    except Exception as error:  # TFDS and TensorFlow raise many types, all of them for files that are damaged
        damaged = _first_damaged(shards[split]) or folder
        raise DataError(f"{damaged} cannot be read ({_first_line(error)}). {_prepare_again(folder)}") from error


def _first_damaged(shards: Shards) -> Path | None:
    """The first record file that cannot be read and decoded to its end, or that ends early."""
    import tensorflow as tf

    from beans_exp.data.batches import untuned

    content = {"image": tf.io.FixedLenFeature((), tf.string)}
    for file, length in shards.items():
        read = 0
        try:
            for record in untuned(tf.data.TFRecordDataset(str(file))):
                tf.io.decode_image(tf.io.parse_single_example(record, content)["image"])
                read += 1
        except tf.errors.OpError:
            return file
        if read != length:
            return file
    return None


def _first_line(error: Exception) -> str:
    return (str(error).strip() or repr(error)).splitlines()[0][:200]
