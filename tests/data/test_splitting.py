"""Data without splits: stratified, seeded, kept, and extended without moving an image."""

import csv
import io
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from beans_exp.data import SPLITS, Source, source
from beans_exp.data.splitting import Image, Rule, place
from beans_exp.errors import DataError
from beans_exp.schema import DataConfig

CLASSES = {"healthy": 20, "rust": 33, "spot": 3}


@pytest.fixture
def leaves(tmp_path: Path) -> Path:
    """A folder of classes without splits; describing it reads no image, so that the files may hold text."""
    add(tmp_path / "leaves", CLASSES)
    return tmp_path / "leaves"


def add(root: Path, classes: dict[str, int], prefix: str = "") -> None:
    for name, count in classes.items():
        for number in range(count):
            file = root / name / f"{prefix}{number}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{prefix}{number}")


def describe(root: Path, **keys: Any) -> Source:
    return source(DataConfig(name="folder", data_dir=str(root), image_size=8, **keys))


def split_of(found: Source) -> dict[str, str]:
    """The split of each image."""
    assert found.split_csv
    rows = list(csv.DictReader(io.StringIO(found.split_csv())))
    table = {row["image"]: row["split"] for row in rows}
    assert table == {name: split for split in SPLITS for name in found.names(split)}
    return table


def counts(splits: dict[str, str], name: str) -> list[int]:
    found = Counter(split for image, split in splits.items() if image.startswith(name))
    return [found[split] for split in SPLITS]


def test_every_class_is_split_exactly(leaves: Path) -> None:
    splits = split_of(describe(leaves))
    assert [counts(splits, name) for name in CLASSES] == [[16, 2, 2], [27, 3, 3], [1, 1, 1]]
    splits = split_of(describe(leaves, split=[0.5, 0.5, 0]))
    assert [counts(splits, name) for name in CLASSES] == [[10, 10, 0], [17, 16, 0], [2, 1, 0]]


def test_the_seed_decides_and_the_location_does_not(leaves: Path, tmp_path: Path) -> None:
    first = split_of(describe(leaves))
    assert split_of(describe(leaves, split_seed=1)) != first
    add(tmp_path / "copy" / "leaves", CLASSES)
    copy = describe(tmp_path / "copy" / "leaves")
    assert split_of(copy) == first and copy.digest == describe(leaves).digest
    assert describe(leaves, split_seed=1).digest != copy.digest
    assert describe(leaves, split=[0.8, 0.1, 0.1]).digest == copy.digest, "the default"


def test_files_that_are_added_move_no_others(leaves: Path) -> None:
    before = split_of(describe(leaves))
    add(leaves, {"rust": 200}, "new")
    add(leaves, {"mosaic": 10})
    after = split_of(describe(leaves))
    assert before.items() <= after.items()
    assert counts(after, "mosaic") == [8, 1, 1], "a new class is split exactly"
    placed = counts({name: split for name, split in after.items() if "new" in name}, "rust")
    assert sum(placed) == 200 and 140 <= placed[0] <= 180 and min(placed) >= 8
    (leaves / "rust" / "new0.jpg").unlink()
    fewer = split_of(describe(leaves))
    assert fewer.items() <= after.items()


def test_the_split_of_a_run_can_be_named(leaves: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(leaves, {"rust": 50}, "new")
    described = describe(leaves)
    file = tmp_path / "split.csv"
    file.write_text(described.split_csv() if described.split_csv else "")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "another machine"))
    named = describe(leaves, split=str(file))
    assert split_of(named) == split_of(described) and named.digest == described.digest
    assert not (tmp_path / "another machine").exists()
    file.write_text("image,split\nrust/0.jpg,tarin\n")
    with pytest.raises(DataError, match="must have the columns image,split"):
        describe(leaves, split=str(file))
    file.write_text("image,split\nother.jpg,train\n")
    with pytest.raises(DataError, match="names no image of"):
        describe(leaves, split=str(file))


def test_missing_splits_are_taken_from_train_if_asked(leaves: Path) -> None:
    for name in CLASSES:
        (leaves / "train").mkdir(exist_ok=True)
        (leaves / name).rename(leaves / "train" / name)
        (leaves / "test" / name).mkdir(parents=True)
        (leaves / "test" / name / "0.jpg").write_text("a test image")
    with pytest.raises(DataError, match=r"validation is missing.*take validation images from train with data\.split"):
        describe(leaves)
    found = describe(leaves, split=[0.75, 0.25, 0])
    assert found.counts == {"train": 42, "validation": 14, "test": 3}
    splits = split_of(found)
    assert [counts(splits, f"train/{name}") for name in CLASSES] == [[15, 5, 0], [25, 8, 0], [2, 1, 0]]


def test_a_split_without_effect_is_an_error(leaves: Path) -> None:
    for split in SPLITS:
        add(leaves / split, CLASSES)
    with pytest.raises(DataError, match=r"data\.split=\[0\.8,0\.1,0\.1\] has no effect: .* has splits"):
        describe(leaves, split=[0.8, 0.1, 0.1])


def test_a_split_without_a_class_is_an_error(leaves: Path) -> None:
    add(leaves, {"mosaic": 2})
    with pytest.raises(
        DataError, match=r"the class mosaic has 2 images, and data\.split=\[0\.8,0\.1,0\.1\] leaves none"
    ):
        describe(leaves)
    assert describe(leaves, split=[0.8, 0.2, 0]).no_test.startswith("data.split=[0.8,0.2,0] leaves no test images")


def test_a_split_that_cannot_be_kept_is_an_error(leaves: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "file"))
    with pytest.raises(DataError, match=r"cannot be written .*XDG_DATA_HOME.*data\.split"):
        describe(leaves)


def test_groups_stay_whole_and_classes_balanced() -> None:
    images = [Image(f"{number}.jpg", number % 3, f"plant {number // 5}") for number in range(600)]
    splits = place(images, Rule((0.8, 0.1, 0.1), 0), {})
    of_group: dict[str, set[str]] = {}
    for image, split in zip(images, splits, strict=True):
        of_group.setdefault(image.group, set()).add(split)
    assert all(len(found) == 1 for found in of_group.values())
    for label in range(3):
        found = Counter(split for image, split in zip(images, splits, strict=True) if image.label == label)
        assert abs(found["train"] - 160) <= 4 and abs(found["test"] - 20) <= 4
    known = {"0.jpg": "test"}
    assert set(place(images[:5], Rule((0.8, 0.1, 0.1), 0), known)) == {"test"}, "a group joins its known images"
