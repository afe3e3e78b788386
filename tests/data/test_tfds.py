"""`data=beans`: a tiny copy in TFDS's own layout, read by TFDS; no network, damage, and the real one where it lies."""

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
from beans_exp.data import SPLITS, Data, load, source
from beans_exp.data import tfds as beans
from beans_exp.data.batches import untuned
from beans_exp.data.images import resize
from beans_exp.errors import DataError
from beans_exp.schema import Config, DataConfig

CLASSES = ("angular_leaf_spot", "bean_rust", "healthy")
SHARDS = {"train": 2, "validation": 1, "test": 1}
LABELS = [1, 0, 2]
"""Of the three images in each record file."""


def jpeg(label: int) -> bytes:
    """A 500x500 picture of one colour, grey as bright as the label tells."""
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


def shard(folder: Path, split: str, place: int = 0) -> Path:
    return folder / f"beans-{split}.tfrecord-{place:05d}-of-{SHARDS[split]:05d}"


def write_copy(folder: Path) -> None:
    """Write what TFDS's builder leaves: three images, one a class, in each record file."""
    folder.mkdir(parents=True)
    for split, shards in SHARDS.items():
        for place in range(shards):
            write_records(shard(folder, split, place), [record(jpeg(label), label) for label in LABELS])
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
    whole = {"featuresDict": {"features": features}, "pythonClassName": f"{module}.features_dict.FeaturesDict"}
    (folder / "features.json").write_text(json.dumps(whole))
    (folder / "label.labels.txt").write_text("\n".join(CLASSES))


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every connection is refused, and no folder of TFDS's is set."""

    def refused(*words: Any, **keys: Any) -> socket.socket:
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(socket, "create_connection", refused)
    monkeypatch.setattr("urllib.request._opener", None)  # it would remember the proxies of an earlier test
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


def load_all(configuration: Config) -> Data:
    return load(configuration, source(configuration.data))


def prepared_folders(tmp_path: Path) -> list[str]:
    return [path.name for path in (tmp_path / "cache").glob("beans_exp/data/*") if path.suffix != ".lock"]


# ---- a prepared copy


@pytest.mark.parametrize("how", ["TFDS_DATA_DIR", "data.data_dir", "home"])
def test_prepared_copy_is_found_and_read(copy: Path, tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_digest_follows_the_records_alone(copy: Path, tmp_path: Path) -> None:
    digest = source(config(data_dir=str(copy.parent.parent)).data).digest
    moved = tmp_path / "moved" / "beans" / "0.1.0"
    shutil.copytree(copy, moved)
    os.utime(shard(moved, "test"), (1, 1))
    assert source(config(data_dir=str(tmp_path / "moved")).data).digest == digest
    write_records(shard(moved, "test"), [record(jpeg(label), label) for label in (0, 1, 2)])
    assert source(config(data_dir=str(tmp_path / "moved")).data).digest != digest


# ---- neither copy nor network


def test_without_copy_and_network_the_ways_out_are_named(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(DataError, match="Connection refused") as caught:
        source(config(data_dir=str(tmp_path / "empty")).data)
    assert time.monotonic() - started < 5
    for words in (str(tmp_path / "empty" / "beans" / "0.1.0"), "data=synthetic", "TFDS_DATA_DIR"):
        assert words in str(caught.value)
    assert not (tmp_path / "empty").exists()


def test_a_name_that_is_looked_up_forever_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_the_network_is_asked_through_the_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int]] = []

    def refused(address: tuple[str, int], *words: Any, **keys: Any) -> socket.socket:
        asked.append(address)
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(socket, "create_connection", refused)
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.invalid:3128")
    with pytest.raises(DataError):
        source(config(data_dir=str(tmp_path)).data)
    assert asked == [("proxy.invalid", 3128)]


# ---- TFDS's own preparation, its downloads replaced by files


def answer(monkeypatch: pytest.MonkeyPatch, error: Exception | None = None) -> None:
    """Let the download host answer."""

    def open_url(*words: Any, **keys: Any) -> io.BytesIO:
        if error:
            raise error
        return io.BytesIO()

    monkeypatch.setattr(network, "urlopen", open_url)


@pytest.fixture
def downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Archives like the original ones in place of downloads; hears of each address."""
    asked: list[str] = []
    for split in SPLITS:
        with zipfile.ZipFile(tmp_path / f"{split}.zip", "w") as archive:
            for label, name in enumerate(CLASSES):
                archive.writestr(f"{split}/{name}/{split}.{label}.jpg", jpeg(label))

    def download(manager: Any, addresses: list[str]) -> list[Path]:
        asked.extend(addresses)
        return [tmp_path / f"{split}.zip" for split in SPLITS]

    monkeypatch.setattr(tfds.download.DownloadManager, "download", download)
    return asked


def bad_request() -> HTTPError:
    return HTTPError(f"https://{beans.HOST}", 400, "Bad Request", None, None)  # type: ignore[arg-type]


UNTRUSTED = URLError(ssl.SSLCertVerificationError("self-signed certificate"))


@pytest.mark.parametrize("error", [None, bad_request(), UNTRUSTED], ids=["200", "400", "certificate"])
def test_beans_are_downloaded_by_tfds_where_there_is_no_copy(
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


def test_a_download_that_fails_names_the_ways_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*words: Any) -> None:
        raise ConnectionError("the line is cut\nand more")

    answer(monkeypatch)
    monkeypatch.setattr(tfds.download.DownloadManager, "download", broken)
    with pytest.raises(DataError, match="the line is cut") as caught:
        source(config(data_dir=str(tmp_path / "new")).data)
    for words in (str(tmp_path / "new"), "data=synthetic", "TFDS_DATA_DIR"):
        assert words in str(caught.value)
    assert not list((tmp_path / "new").glob("beans/0*"))


# ---- damage


def cut(file: Path, part: float) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: int(part * len(content))])


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
    "record file cut": (lambda folder: cut(shard(folder, "train", 1), 0.5), "beans-train.tfrecord-00001-of-00002"),
    "record file empty": (lambda folder: cut(shard(folder, "test"), 0), "beans-test.tfrecord-00000-of-00001"),
    "bit flipped": (lambda folder: flip_a_bit(shard(folder, "validation")), "beans-validation.tfrecord-00000-of-00001"),
    "a record too few": (
        lambda folder: write_records(shard(folder, "train"), [record(jpeg(0), 0)]),
        "beans-train.tfrecord-00000-of-00002",
    ),
    "jpeg cut": (damaged_jpeg, "beans-train.tfrecord-00001-of-00002"),
    "not an image": (
        lambda folder: write_records(shard(folder, "test"), [record(b"hello", 0)] * 3),
        "beans-test.tfrecord-00000-of-00001",
    ),
    "not an example": (
        lambda folder: write_records(shard(folder, "test"), [b"hello"] * 3),
        "beans-test.tfrecord-00000-of-00001",
    ),
    "info cut": (lambda folder: cut(folder / "dataset_info.json", 0.5), "dataset_info.json"),
    "info lacks a split": (drop_split, "dataset_info.json"),
    "labels missing": (lambda folder: (folder / "label.labels.txt").unlink(), "label.labels.txt"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_copy_is_an_error_that_names_the_file(copy: Path, tmp_path: Path, kind: str) -> None:
    damage, name = DAMAGE[kind]
    damage(copy)
    with pytest.raises(DataError) as caught:
        load_all(config(data_dir=str(copy.parent.parent)))
    assert str(copy / name) in str(caught.value)
    assert f"Remove {copy} and let TFDS prepare it again" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert prepared_folders(tmp_path) == []


def test_a_mended_copy_is_read(copy: Path, tmp_path: Path) -> None:
    whole = shard(copy, "test").read_bytes()
    cut(shard(copy, "test"), 0.5)
    with pytest.raises(DataError):
        load_all(config(data_dir=str(copy.parent.parent)))
    shard(copy, "test").write_bytes(whole)
    assert len(load_all(config(data_dir=str(copy.parent.parent))).test) == 3
    assert len(prepared_folders(tmp_path)) == 1


def test_a_class_missing_from_a_split_is_named(copy: Path, tmp_path: Path) -> None:
    write_records(shard(copy, "validation"), [record(jpeg(label), label) for label in (0, 0, 2)])
    with pytest.raises(DataError, match="beans: the validation split has no image of class bean_rust"):
        load_all(config(data_dir=str(copy.parent.parent)))
    assert prepared_folders(tmp_path) == []


# ---- the real one

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

    def test_images_are_those_of_tfds(self, real: Data) -> None:
        dataset = tfds.load("beans", split="validation", data_dir=REAL, as_supervised=True, download=False)
        for place, (image, label) in enumerate(untuned(dataset.take(3))):
            assert label == real.validation.labels[place]
            assert np.array_equal(resize(image.numpy(), 64), real.validation.images[place])

    def test_second_loading_does_not_read(self, real: Data) -> None:
        cached = Path(real.train.images.filename).parents[2]  # type: ignore[attr-defined]
        started = time.monotonic()
        load_all(config(data_dir=str(REAL), image_size=64, cache_dir=str(cached)))
        assert time.monotonic() - started < 3
        assert len(list(cached.glob("data/*[!k]"))) == 1
