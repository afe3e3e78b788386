"""TFDS `beans`, from a prepared copy or by TFDS's own download; the one module that says `tfds`."""

import json
import os
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from beans_exp.data.source import Source, files_digest
from beans_exp.errors import DataError

VERSION = "0.1.0"
HOST = "storage.googleapis.com"
"""Where TFDS downloads `beans` from."""
WAYS_OUT = (
    "Ways out: data=synthetic needs no download; or set TFDS_DATA_DIR (or data.data_dir) to a folder that holds "
    f"beans/{VERSION}, prepared by TFDS on a machine with a network"
)


def beans_source(data_dir: str | None) -> Source:
    """Find the prepared `beans`, downloading it first where there is none.

    Raises DataError, within seconds, where there is neither a prepared copy nor a network.
    """
    root = _tfds_root(data_dir)
    folder = root / "beans" / VERSION
    if not (folder / "dataset_info.json").is_file():
        _require_network(folder)
        _download(root)
    classes = tuple((folder / "label.labels.txt").read_text().split())
    return Source("beans", VERSION, files_digest(folder, _record_files(folder)), classes, partial(_read, folder))


def _tfds_root(data_dir: str | None) -> Path:
    return Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def _record_files(folder: Path) -> list[Path]:
    """The TFRecord files that dataset_info.json promises.

    Raises DataError where the file cannot be read or a record file is missing.
    """
    info = folder / "dataset_info.json"
    try:
        counts = {split["name"]: len(split["shardLengths"]) for split in json.loads(info.read_text())["splits"]}
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{info} is damaged ({error}). Remove {folder} and let TFDS prepare it again") from error
    files = [
        folder / f"beans-{split}.tfrecord-{shard:05d}-of-{shards:05d}"
        for split, shards in counts.items()
        for shard in range(shards)
    ]
    for file in files:
        if not file.is_file():
            raise DataError(f"{file} is missing. Remove {folder} and let TFDS prepare it again")
    return files


def _require_network(folder: Path) -> None:
    try:
        socket.create_connection((HOST, 443), timeout=3).close()
    except OSError as error:
        raise DataError(f"no prepared beans in {folder}, and {HOST} is not reached ({error}). {WAYS_OUT}") from error


def _download(root: Path) -> None:
    import tensorflow_datasets as tfds

    try:
        tfds.builder("beans", data_dir=root).download_and_prepare()
    except Exception as error:  # TFDS raises many types, all of them for a download that failed
        raise DataError(f"TFDS could not prepare beans in {root}: {error}. {WAYS_OUT}") from error


def _read(folder: Path, split: str) -> Iterator[tuple[np.ndarray, int]]:
    import tensorflow as tf
    import tensorflow_datasets as tfds

    dataset = tfds.load("beans", split=split, data_dir=folder.parent.parent, as_supervised=True, download=False)
    try:
        for image, label in dataset.as_numpy_iterator():
            yield image, int(label)
    except tf.errors.OpError as error:
        raise DataError(f"{_damaged(folder, split)} cannot be read ({_first_line(error)}). {WAYS_OUT}") from error


def _damaged(folder: Path, split: str) -> Path:
    """The first record file of `split` that cannot be read to its end, or the folder where each can."""
    import tensorflow as tf

    for file in sorted(folder.glob(f"beans-{split}.tfrecord-*")):
        try:
            for record in tf.data.TFRecordDataset(str(file)):
                example = tf.train.Example.FromString(record.numpy())
                tf.io.decode_jpeg(example.features.feature["image"].bytes_list.value[0])
        except (tf.errors.OpError, ValueError, IndexError):
            return file
    return folder


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200]
