"""`data=beans`: a tiny copy in the layout of TFDS, downloads, damaged copies, and the real data set if available."""

import io
import json
import os
import shutil
import socket
import ssl
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

from beans_exp import network
from beans_exp.data import SPLITS, Data, source
from beans_exp.data import tfds as beans
from beans_exp.data.batches import without_autotune
from beans_exp.data.images import resize
from beans_exp.errors import DataError
from beans_exp.schema import Config, DataConfig
from tests.data.builders import load_all, prepared_folders, truncate

CLASSES = ("angular_leaf_spot", "bean_rust", "healthy")
SHARDS = {"train": 2, "validation": 1, "test": 1}
LABELS = [1, 0, 2]
"""The labels of the three images in each record file."""


def jpeg(label: int) -> bytes:
    """A 500x500 image of one colour, a grey whose brightness is the label."""
    stream = io.BytesIO()
    Image.new("RGB", (500, 500), (100 * label,) * 3).save(stream, "JPEG")
    return stream.getvalue()


def record(image: bytes, label: int) -> bytes:
    feature = {
        "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[image])),
        "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
    }
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def write_records(file: Path, records: list[bytes]) -> None:
    with tf.io.TFRecordWriter(str(file)) as writer:
        for content in records:
            writer.write(content)


def shard(folder: Path, split: str, number: int = 0) -> Path:
    return folder / f"beans-{split}.tfrecord-{number:05d}-of-{SHARDS[split]:05d}"


def write_copy(folder: Path) -> None:
    """Write a copy as the builder of TFDS does: three images, one of each class, in each record file."""
    folder.mkdir(parents=True)
    for split, shards in SHARDS.items():
        for number in range(shards):
            write_records(shard(folder, split, number), [record(jpeg(label), label) for label in LABELS])
    splits = [
        {
            "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
            "name": split,
            "numBytes": "1",
            "shardLengths": ["3"] * shards,
        }
        for split, shards in SHARDS.items()
    ]
    info: dict[str, Any] = {"fileFormat": "tfrecord", "name": "beans", "version": "0.1.0", "splits": splits}
    info["supervisedKeys"] = {"tuple": {"items": [{"featureKey": "image"}, {"featureKey": "label"}]}}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    image = {"dtype": "uint8", "shape": {"dimensions": ["500", "500", "3"]}}
    module = "tensorflow_datasets.core.features"
    features = {
        "image": {"image": image, "pythonClassName": f"{module}.image_feature.Image"},
        "label": {"classLabel": {"numClasses": "3"}, "pythonClassName": f"{module}.class_label_feature.ClassLabel"},
    }
    dictionary = {"featuresDict": {"features": features}, "pythonClassName": f"{module}.features_dict.FeaturesDict"}
    (folder / "features.json").write_text(json.dumps(dictionary))
    (folder / "label.labels.txt").write_text("\n".join(CLASSES))


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse every connection, and unset the folder of TFDS."""

    def refused(*words: Any, **keys: Any) -> socket.socket:
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(socket, "create_connection", refused)
    monkeypatch.setattr("urllib.request._opener", None)  # it caches the proxies of an earlier test
    for name in ("TFDS_DATA_DIR", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The folder beans/0.1.0 of a tiny copy."""
    folder = tmp_path / "tfds" / "beans" / "0.1.0"
    write_copy(folder)
    return folder


def config(**keys: Any) -> Config:
    return Config(data=DataConfig(name="beans", **{"image_size": 8, **keys}))


# ---- a prepared copy


@pytest.mark.parametrize("how", ["TFDS_DATA_DIR", "data.data_dir", "home"])
def test_a_prepared_copy_is_found_and_read(
    copy: Path, tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = copy.parent.parent
    if how == "home":
        monkeypatch.setenv("HOME", str(tmp_path))
        root.rename(tmp_path / "tensorflow_datasets")
    else:
        monkeypatch.setenv("TFDS_DATA_DIR", str(root if how == "TFDS_DATA_DIR" else tmp_path / "elsewhere"))
    data = load_all(config(data_dir=str(root) if how == "data.data_dir" else None))
    assert (data.source.name, data.source.version, data.classes) == ("beans", "0.1.0", CLASSES)
    assert data.source.counts == {"train": 6, "validation": 3, "test": 3}
    for split, shards in ((data.train, 2), (data.validation, 1), (data.test, 1)):
        assert split.labels.tolist() == LABELS * shards
        assert split.images.shape == (3 * shards, 8, 8, 3)
        assert np.abs(split.images.mean((1, 2, 3)) - 100 * split.labels).max() < 2


def test_the_digest_depends_on_the_records_alone(copy: Path, tmp_path: Path) -> None:
    digest = source(config(data_dir=str(copy.parent.parent)).data).digest
    moved = tmp_path / "moved" / "beans" / "0.1.0"
    shutil.copytree(copy, moved)
    os.utime(shard(moved, "test"), (1, 1))
    assert source(config(data_dir=str(tmp_path / "moved")).data).digest == digest
    write_records(shard(moved, "test"), [record(jpeg(label), label) for label in (0, 1, 2)])
    assert source(config(data_dir=str(tmp_path / "moved")).data).digest != digest


# ---- neither a copy nor a network


def test_without_copy_and_network_the_error_names_the_alternatives(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(DataError, match="Connection refused") as caught:
        source(config(data_dir=str(tmp_path / "empty")).data)
    assert time.monotonic() - started < 5
    for words in (str(tmp_path / "empty" / "beans" / "0.1.0"), "data=synthetic", "TFDS_DATA_DIR"):
        assert words in str(caught.value)
    assert not (tmp_path / "empty").exists()


def test_an_endless_name_resolution_is_abandoned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert network.SECONDS <= 5
    monkeypatch.setattr(network, "SECONDS", 0.2)
    done = threading.Event()

    def patient(*words: Any, **keys: Any) -> socket.socket:
        done.wait(60)
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(socket, "create_connection", patient)
    started = time.monotonic()
    with pytest.raises(DataError, match=r"no answer within 0\.2 seconds"):
        source(config(data_dir=str(tmp_path)).data)
    assert time.monotonic() - started < 5
    done.set()


def test_the_network_is_checked_through_the_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    addresses: list[tuple[str, int]] = []

    def refused(address: tuple[str, int], *words: Any, **keys: Any) -> socket.socket:
        addresses.append(address)
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(socket, "create_connection", refused)
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.invalid:3128")
    with pytest.raises(DataError):
        source(config(data_dir=str(tmp_path)).data)
    assert addresses == [("proxy.invalid", 3128)]


# ---- preparation by TFDS, with files in place of downloads


def answer(monkeypatch: pytest.MonkeyPatch, error: Exception | None = None) -> None:
    """Let the download host answer."""

    def open_url(*words: Any, **keys: Any) -> io.BytesIO:
        if error:
            raise error
        return io.BytesIO()

    monkeypatch.setattr("urllib.request.urlopen", open_url)


@pytest.fixture
def downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replace downloads by archives like the original ones; return the addresses that are downloaded."""
    requested: list[str] = []
    for split in SPLITS:
        with zipfile.ZipFile(tmp_path / f"{split}.zip", "w") as archive:
            for label, name in enumerate(CLASSES):
                archive.writestr(f"{split}/{name}/{split}.{label}.jpg", jpeg(label))

    def download(manager: Any, addresses: list[str]) -> list[Path]:
        requested.extend(addresses)
        return [tmp_path / f"{split}.zip" for split in SPLITS]

    monkeypatch.setattr(tfds.download.DownloadManager, "download", download)
    return requested


def bad_request() -> HTTPError:
    return HTTPError(f"https://{beans.HOST}", 400, "Bad Request", None, None)  # type: ignore[arg-type]


UNTRUSTED = URLError(ssl.SSLCertVerificationError("self-signed certificate"))


@pytest.mark.parametrize("error", [None, bad_request(), UNTRUSTED], ids=["200", "400", "certificate"])
def test_beans_are_downloaded_by_tfds_without_a_copy(
    downloads: list[str], tmp_path: Path, error: Exception | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(monkeypatch, error)
    data = load_all(config(data_dir=str(tmp_path / "new")))
    assert data.classes == CLASSES and len(downloads) == 3
    assert all(f"https://{beans.HOST}/" in address for address in downloads)
    assert sorted(data.test.labels.tolist()) == [0, 1, 2]
    assert np.abs(data.train.images.mean((1, 2, 3)) - 100 * data.train.labels).max() < 2
    load_all(config(data_dir=str(tmp_path / "new")))
    assert len(downloads) == 3


def test_two_runs_that_start_at_once_download_once(
    downloads: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(monkeypatch)
    gate = threading.Barrier(2)
    digests: list[str] = []

    def work() -> None:
        gate.wait()
        digests.append(source(config(data_dir=str(tmp_path / "new")).data).digest)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(digests) == 2 and len(set(digests)) == 1
    assert len(downloads) == 3


def test_a_failed_download_names_the_alternatives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*words: Any) -> None:
        raise ConnectionError("the line is cut\nand more")

    answer(monkeypatch)
    monkeypatch.setattr(tfds.download.DownloadManager, "download", failing)
    with pytest.raises(DataError, match="the line is cut") as caught:
        source(config(data_dir=str(tmp_path / "new")).data)
    for words in (str(tmp_path / "new"), "data=synthetic", "TFDS_DATA_DIR"):
        assert words in str(caught.value)
    assert not list((tmp_path / "new").glob("beans/0*"))


# ---- damage


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def drop_split(folder: Path) -> None:
    info = json.loads((folder / "dataset_info.json").read_text())
    info["splits"].pop()
    (folder / "dataset_info.json").write_text(json.dumps(info))


def damaged_jpeg(folder: Path) -> None:
    records = [record(jpeg(1), 1), record(jpeg(0)[:600], 0), record(jpeg(2), 2)]
    write_records(shard(folder, "train", 1), records)


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "record file missing": (lambda folder: shard(folder, "train", 1).unlink(), "beans-train.tfrecord-00001-of-00002"),
    "record file truncated": (
        lambda folder: truncate(shard(folder, "train", 1), 0.5),
        "beans-train.tfrecord-00001-of-00002",
    ),
    "record file empty": (lambda folder: truncate(shard(folder, "test"), 0), "beans-test.tfrecord-00000-of-00001"),
    "bit flipped": (lambda folder: flip_a_bit(shard(folder, "validation")), "beans-validation.tfrecord-00000-of-00001"),
    "a record missing": (
        lambda folder: write_records(shard(folder, "train"), [record(jpeg(0), 0)]),
        "beans-train.tfrecord-00000-of-00002",
    ),
    "jpeg truncated": (damaged_jpeg, "beans-train.tfrecord-00001-of-00002"),
    "not an image": (
        lambda folder: write_records(shard(folder, "test"), [record(b"hello", 0)] * 3),
        "beans-test.tfrecord-00000-of-00001",
    ),
    "not an example": (
        lambda folder: write_records(shard(folder, "test"), [b"hello"] * 3),
        "beans-test.tfrecord-00000-of-00001",
    ),
    "info truncated": (lambda folder: truncate(folder / "dataset_info.json", 0.5), "dataset_info.json"),
    "info lacks a split": (drop_split, "dataset_info.json"),
    "labels missing": (lambda folder: (folder / "label.labels.txt").unlink(), "label.labels.txt"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_copy_is_an_error_that_names_the_file(copy: Path, tmp_path: Path, kind: str) -> None:
    damage, name = DAMAGE[kind]
    damage(copy)
    with pytest.raises(DataError) as caught:
        load_all(config(data_dir=str(copy.parent.parent)))
    assert str(copy / name) in str(caught.value)
    assert f"Remove {copy} and let TFDS prepare it again" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert prepared_folders() == []


def test_a_repaired_copy_is_read(copy: Path, tmp_path: Path) -> None:
    intact = shard(copy, "test").read_bytes()
    truncate(shard(copy, "test"), 0.5)
    with pytest.raises(DataError):
        load_all(config(data_dir=str(copy.parent.parent)))
    shard(copy, "test").write_bytes(intact)
    assert len(load_all(config(data_dir=str(copy.parent.parent))).test) == 3
    assert len(prepared_folders()) == 1


def test_a_class_missing_from_a_split_is_named(copy: Path, tmp_path: Path) -> None:
    write_records(shard(copy, "validation"), [record(jpeg(label), label) for label in (0, 0, 2)])
    with pytest.raises(DataError, match="beans: the validation split has no image of class bean_rust"):
        load_all(config(data_dir=str(copy.parent.parent)))
    assert prepared_folders() == []


# ---- the real data set

REAL = Path(os.environ.get("TFDS_DATA_DIR") or "tensorflow_datasets").resolve()  # before a test changes the folder


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Data:
    """The real `beans` at 64x64, prepared once for all tests."""
    return load_all(config(data_dir=str(REAL), image_size=64, cache_dir=str(tmp_path_factory.mktemp("real"))))


@pytest.mark.skipif(not (REAL / "beans" / "0.1.0").is_dir(), reason="TFDS_DATA_DIR names no folder with beans/0.1.0")
class TestRealBeans:
    def test_counts_and_classes(self, real: Data) -> None:
        assert real.classes == CLASSES
        assert real.source.counts == {"train": 1034, "validation": 133, "test": 128}
        found = [np.bincount(split.labels).tolist() for split in (real.train, real.validation, real.test)]
        assert found == [[345, 348, 341], [44, 45, 44], [43, 43, 42]]
        assert real.train.images.shape == (1034, 64, 64, 3)

    def test_the_images_equal_those_of_tfds(self, real: Data) -> None:
        dataset = tfds.load("beans", split="validation", data_dir=REAL, as_supervised=True, download=False)
        for index, (image, label) in enumerate(without_autotune(dataset.take(3))):
            assert label == real.validation.labels[index]
            assert np.array_equal(resize(image.numpy(), 64), real.validation.images[index])

    def test_loading_again_reads_no_images(self, real: Data) -> None:
        cached = Path(real.train.images.filename).parents[2]  # type: ignore[attr-defined]
        started = time.monotonic()
        load_all(config(data_dir=str(REAL), image_size=64, cache_dir=str(cached)))
        assert time.monotonic() - started < 3
        assert len(list(cached.glob("data/*[!k]"))) == 1
