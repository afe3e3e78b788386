"""`data=tfds`: any image classification set of TFDS, here copies of `beans` under other descriptions."""

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from beans_exp.data import SPLITS, source
from beans_exp.data.batches import without_autotune
from beans_exp.data.tfds_copy import reading_order
from beans_exp.errors import DataError
from beans_exp.schema import Config, DataConfig
from tests.data.builders import load_all
from tests.data.test_tfds import write_copy


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    folder = tmp_path / "tfds" / "beans" / "0.1.0"
    write_copy(folder)
    return folder


def config(copy: Path, name: str = "tfds", **keys: object) -> DataConfig:
    dataset = "beans:0.1.0" if name == "tfds" else None
    return DataConfig(name, data_dir=str(copy.parents[1]), image_size=8, dataset=dataset, **keys)  # type: ignore[arg-type]


def keep_splits(copy: Path, *names: str) -> None:
    info = json.loads((copy / "dataset_info.json").read_text())
    info["splits"] = [split for split in info["splits"] if split["name"] in names]
    (copy / "dataset_info.json").write_text(json.dumps(info))


def test_beans_is_a_preset(copy: Path) -> None:
    named, preset = source(config(copy)), source(config(copy, "beans"))
    assert (named.name, named.version, named.digest) == (preset.name, preset.version, preset.digest)


def test_records_are_named_as_tfds_names_them(copy: Path) -> None:
    read = tfds.ReadConfig(add_tfds_id=True)
    for split in SPLITS:
        dataset = tfds.load("beans:0.1.0", split=split, data_dir=copy.parents[1], download=False, read_config=read)
        ids = [row["tfds_id"].decode() for row in without_autotune(dataset).as_numpy_iterator()]
        assert source(config(copy)).names(split) == ids


def test_a_set_without_splits_is_split(copy: Path) -> None:
    keep_splits(copy, "train")
    with pytest.raises(DataError, match="leaves none for"):  # two images of each class
        load_all(Config(data=config(copy)))
    with pytest.raises(DataError, match=r"trainer\.test=false"):
        load_all(Config(data=config(copy, split=[0.5, 0.5, 0])))


def test_missing_splits_are_taken_from_train_if_asked(copy: Path) -> None:
    keep_splits(copy, "train", "test")
    with pytest.raises(DataError, match=r"lists no validation split\. .*data\.split="):
        source(config(copy))
    data = load_all(Config(data=config(copy, split=[0.5, 0.5, 0])))
    assert [sorted(split.labels.tolist()) for split in (data.train, data.validation, data.test)] == [[0, 1, 2]] * 3
    for split in (data.train, data.validation, data.test):
        assert len(split.names) == 3
        assert np.abs(split.images.mean((1, 2, 3)) - 100 * split.labels).max() < 2


def test_files_are_read_in_turns() -> None:
    assert list(reading_order([3, 2], 1)) == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]
    order = list(reading_order([20, 5], 16))
    assert order == [*((0, i) for i in range(16)), *((1, i) for i in range(5)), *((0, i) for i in range(16, 20))]
