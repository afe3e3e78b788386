"""`data=folder`: classes, images, invalid folders, and the digest of the content."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from beans_exp.data import SPLITS, source
from beans_exp.data.image_files import read_image
from beans_exp.data.images import resize
from beans_exp.errors import DataError
from tests.data.builders import folder_config, load_all, noise, prepared_folders, save, truncate


@pytest.fixture
def leaves(tmp_path: Path) -> Path:
    """A folder of three classes, JPEG and PNG, two images each in every split."""
    root = tmp_path / "leaves"
    for split in SPLITS:
        for name in ("rust", "healthy", "spot"):
            save(root / split / name / "a.jpg", noise(12, 20, 3))
            save(root / split / name / "b.png", noise(9, 8, 3))
    return root


def test_a_folder_gives_sorted_classes_and_every_image(leaves: Path) -> None:
    (leaves / "train" / "rust" / "a.jpg").rename(leaves / "train" / "rust" / "A.JPEG")
    (leaves / "train" / "rust" / ".DS_Store").write_text("a hidden file")
    (leaves / "train" / "README.txt").write_text("a file outside the class folders")
    data = load_all(folder_config(leaves))
    assert data.classes == ("healthy", "rust", "spot")
    assert data.source.counts == {"train": 6, "validation": 6, "test": 6}
    for split in (data.train, data.validation, data.test):
        assert split.images.shape == (6, 8, 8, 3) and split.images.dtype == np.uint8
        assert split.labels.tolist() == [0, 0, 1, 1, 2, 2] and split.labels.dtype == np.int64
    first = read_image(leaves / "train" / "healthy" / "a.jpg")
    assert np.array_equal(data.train.images[0], resize(first, 8))


def test_the_validation_folder_may_be_named_val(leaves: Path) -> None:
    (leaves / "validation").rename(leaves / "val")
    assert len(load_all(folder_config(leaves)).validation) == 6


@pytest.mark.parametrize("classes", [2, 5])
def test_a_folder_may_hold_any_number_of_classes(tmp_path: Path, classes: int) -> None:
    for split in SPLITS:
        for label in range(classes):
            save(tmp_path / split / f"class {label}" / "é.png", noise(8, 8, 3))
    data = load_all(folder_config(tmp_path))
    assert data.classes == tuple(f"class {label}" for label in range(classes))
    assert data.test.labels.tolist() == list(range(classes))


def empty_class(root: Path) -> None:
    for file in (root / "test/spot").iterdir():
        file.unlink()
    (root / "test/spot/.gitkeep").touch()


def only_one_class(root: Path) -> None:
    for split in SPLITS:
        shutil.rmtree(root / split / "rust")
        shutil.rmtree(root / split / "spot")


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no folder": (shutil.rmtree, "leaves/train is missing"),
    "no test split": (lambda root: shutil.rmtree(root / "test"), "leaves/test is missing"),
    "no validation split": (lambda root: shutil.rmtree(root / "validation"), "leaves/validation is missing"),
    "val and validation": (lambda root: (root / "val").mkdir(), "leaves has both validation and val"),
    "class missing from a split": (lambda root: shutil.rmtree(root / "test/rust"), "leaves/test/rust is missing"),
    "class in one split only": (lambda root: (root / "test/new").mkdir(), "leaves/train/new is missing"),
    "empty class": (empty_class, "leaves/test/spot is empty"),
    "one class": (only_one_class, "leaves/train holds 1 class"),
    "a file that is no image": (
        lambda root: (root / "train/rust/notes.txt").touch(),
        "rust/notes.txt is not an image: a class folder may hold only",
    ),
    "text named jpg": (lambda root: (root / "test/rust/a.jpg").write_text("hello"), "test/rust/a.jpg cannot be read"),
    "empty file": (lambda root: (root / "test/rust/a.jpg").write_bytes(b""), "test/rust/a.jpg cannot be read"),
    "truncated jpg": (
        lambda root: truncate(root / "validation/spot/a.jpg", 0.7),
        "validation/spot/a.jpg cannot be read",
    ),
    "truncated png": (lambda root: truncate(root / "test/spot/b.png", 0.7), "test/spot/b.png cannot be read"),
    "header only": (lambda root: truncate(root / "train/spot/b.png", 0.1), "train/spot/b.png cannot be read"),
    "a folder named jpg": (lambda root: (root / "train/rust/c.jpg").mkdir(), "train/rust/c.jpg cannot be read"),
    "a dangling link": (lambda root: (root / "train/rust/c.jpg").symlink_to("gone"), "train/rust/c.jpg cannot be read"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_an_invalid_folder_is_an_error_that_names_the_file(leaves: Path, kind: str) -> None:
    damage, words = DAMAGE[kind]
    damage(leaves)
    with pytest.raises(DataError) as caught:
        load_all(folder_config(leaves))
    assert str(leaves.parent / words) in str(caught.value) or words in str(caught.value)
    assert str(leaves) in str(caught.value)
    assert prepared_folders() == []


@pytest.mark.parametrize("method", ["open", "iterdir"])
def test_an_unreadable_file_or_folder_is_named(leaves: Path, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    forbidden = leaves / {"open": "test/rust/a.jpg", "iterdir": "test/rust"}[method]
    real = getattr(Path, method)

    def guarded(path: Path, *words: Any) -> Any:
        if path == forbidden:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *words)

    monkeypatch.setattr(Path, method, guarded)
    with pytest.raises(DataError, match="Permission denied") as caught:
        source(folder_config(leaves).data)
    assert str(forbidden) in str(caught.value)


def folder_digest(root: Path) -> str:
    return source(folder_config(root).data).digest


def test_the_digest_is_independent_of_location_and_time(leaves: Path, tmp_path: Path) -> None:
    before = source(folder_config(leaves).data)
    copy = tmp_path / "elsewhere" / "copy"
    shutil.copytree(leaves, copy)
    os.utime(copy / "train/rust/a.jpg", (1, 1))
    after = source(folder_config(copy).data)
    assert (after.digest, after.version) == (before.digest, before.version)


@pytest.mark.parametrize(
    "change",
    [
        lambda root: save(root / "test/rust/b.png", noise(9, 8, 3)),
        lambda root: (root / "test/rust/b.png").rename(root / "test/rust/c.png"),
        lambda root: (root / "test/rust/b.png").rename(root / "test/spot/c.png"),
        lambda root: (root / "train/rust/b.png").unlink(),
    ],
    ids=["content", "name", "class", "one image less"],
)
def test_the_digest_depends_on_the_content(leaves: Path, change: Callable[[Path], Any]) -> None:
    before = folder_digest(leaves)
    change(leaves)
    assert folder_digest(leaves) != before
