"""`data=folder`: classes, images, invalid folders, and the digest of the content."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from beans_exp.data import SPLITS, source
from beans_exp.data.image_files import read_image
from beans_exp.data.images import resize
from beans_exp.errors import DataError
from beans_exp.models.inference import image_files
from beans_exp.schema import TrainerConfig
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


@pytest.mark.parametrize("name", ["val", "valid", "dev", "Validation"])
def test_splits_have_several_names(leaves: Path, name: str) -> None:
    (leaves / "validation").rename(leaves / name)
    (leaves / "test").rename(leaves / "Test")
    found = source(folder_config(leaves).data)
    assert found.counts == {"train": 6, "validation": 6, "test": 6}
    assert found.names("validation")[0] == f"{name}/healthy/a.jpg"


def test_files_are_found_in_nested_and_linked_folders_in_any_format(leaves: Path, tmp_path: Path) -> None:
    nested = leaves / "train" / "rust" / "field 2" / "plant"
    for name in ("a.JPG", "b.jfif", "c.webp", "d.tif", "e.TIFF", "f.bmp", "g.GIF", "h.jpeg"):
        save(nested / "x.png", noise(9, 8, 3))
        (nested / "x.png").rename(nested / name)  # the content decides how a file is read
    elsewhere = tmp_path / "elsewhere"
    save(elsewhere / "linked.png", noise(9, 8, 3))
    (leaves / "train" / "rust" / "link").symlink_to(elsewhere)
    (leaves / "train" / "rust" / "link.png").symlink_to(elsewhere / "linked.png")
    (elsewhere / "loop").symlink_to(leaves / "train" / "rust")
    names = source(folder_config(leaves).data).names("train")
    assert [name.removeprefix("train/rust/") for name in names if "rust" in name] == [
        *("a.jpg", "b.png", "link.png"),
        *(
            f"field 2/plant/{name}"
            for name in ("a.JPG", "b.jfif", "c.webp", "d.tif", "e.TIFF", "f.bmp", "g.GIF", "h.jpeg")
        ),
        "link/linked.png",
    ]
    trained = [leaves / name for name in names if "rust" in name]
    assert image_files([leaves / "train" / "rust"]) == trained, "prediction finds the same files"
    assert len(load_all(folder_config(leaves)).train) == len(names)


def test_leftovers_of_systems_are_ignored_and_counted(leaves: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = folder_digest(leaves)
    for name in ("Thumbs.db", "desktop.ini", "._a.jpg", "._b.png", ".DS_Store"):
        (leaves / "train" / "rust" / name).touch()
    for name in ("__MACOSX", "train/__MACOSX", "train/rust/.ipynb_checkpoints"):
        save(leaves / name / "a.png", noise(8, 8, 3))
    with caplog.at_level("INFO"):
        data = load_all(folder_config(leaves))
    assert data.source.ignored == {
        **{"__MACOSX": 2, ".ipynb_checkpoints": 1, "._*": 2},
        **{"Thumbs.db": 1, "desktop.ini": 1, ".DS_Store": 1},
    }
    assert "folder: ignored 8 leftovers" in caplog.text
    assert data.source.digest == before


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("Rust", "rust"), "Rust and rust differ only in case"),
        (("caf\u00e9", "cafe\u0301"), "Unicode form of their accents"),
    ],
)
def test_classes_that_look_alike_are_named(leaves: Path, names: tuple[str, str], message: str) -> None:
    for split, name in zip(("train", "test"), names, strict=True):
        (leaves / split / "rust").rename(leaves / split / name)
    (leaves / "validation" / "rust").rename(leaves / "validation" / names[0])
    with pytest.raises(DataError, match=message):
        source(folder_config(leaves).data)


def test_names_in_latin_1_are_read_and_shown_escaped(leaves: Path) -> None:
    odd = os.fsdecode(b"na\xefve.png")
    (leaves / "test" / "rust" / "b.png").rename(leaves / "test" / "rust" / odd)
    data = load_all(folder_config(leaves))
    assert "test/rust/na\\xefve.png" in data.test.names
    (leaves / "test" / "rust").rename(leaves / "test" / os.fsdecode(b"ro\xefl"))
    with pytest.raises(DataError, match=r"class ro\\xefl is not UTF-8\. Rename it"):
        source(folder_config(leaves).data)


def test_no_test_split_is_needed_without_a_test(leaves: Path) -> None:
    shutil.rmtree(leaves / "test")
    with pytest.raises(DataError, match=r"leaves/test is missing.*trainer\.test=false.*data\.split="):
        load_all(folder_config(leaves))
    data = load_all(replace(folder_config(leaves), trainer=TrainerConfig(test=False)))
    assert (len(data.train), len(data.validation), len(data.test)) == (6, 6, 0)


def test_all_unreadable_files_are_named_at_once_or_skipped(leaves: Path) -> None:
    bad = ["train/rust/a.jpg", "validation/spot/b.png", "test/healthy/a.jpg"]
    for name in bad:
        truncate(leaves / name, 0.5)
    with pytest.raises(DataError, match=r"3 files cannot be read.*data\.on_error=skip") as caught:
        load_all(folder_config(leaves))
    assert all(str(leaves / name) in str(caught.value) for name in bad)
    for _ in range(2):  # the second time from the cache
        data = load_all(folder_config(leaves, on_error="skip"))
        assert [name for name, _ in data.skipped] == bad
        assert all(len(split) == len(split.names) == 5 for split in (data.train, data.validation, data.test))
        assert not set(bad) & {*data.train.names, *data.validation.names, *data.test.names}
    with pytest.raises(DataError, match="3 files cannot be read"):
        load_all(folder_config(leaves))


def test_files_that_are_no_images_are_skipped_by_name(leaves: Path) -> None:
    for name in ("notes.txt", "labels.csv"):
        (leaves / "train" / "rust" / name).touch()
    (leaves / "train" / "rust" / "gone.jpg").symlink_to("nowhere")
    with pytest.raises(DataError, match=r"2 files are not images: .*labels\.csv; .*notes\.txt"):
        source(folder_config(leaves).data)
    data = load_all(folder_config(leaves, on_error="skip"))
    assert [name.removeprefix("train/rust/") for name, _ in data.skipped] == ["labels.csv", "notes.txt", "gone.jpg"]


def test_a_class_without_a_readable_image_is_named(leaves: Path) -> None:
    for name in ("a.jpg", "b.png"):
        truncate(leaves / "test" / "rust" / name, 0.3)
    with pytest.raises(DataError, match="the test split has no image of class rust"):
        load_all(folder_config(leaves, on_error="skip"))


def test_unchanged_files_are_not_read_again_for_the_digest(leaves: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in leaves.rglob("*.*"):
        os.utime(file, (1, 1))
    before = folder_digest(leaves)
    opened: list[Path] = []
    real = Path.open

    def watched(path: Path, *words: Any, **keys: Any) -> Any:
        opened.append(path)
        return real(path, *words, **keys)

    monkeypatch.setattr(Path, "open", watched)
    assert folder_digest(leaves) == before
    changed = leaves / "test" / "rust" / "b.png"
    save(changed, noise(9, 8, 3))
    assert folder_digest(leaves) != before
    assert [path for path in opened if leaves in path.parents and path.suffix in (".png", ".jpg")] == [changed]


def test_photos_far_larger_than_the_input_are_pointed_out_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for split in SPLITS:
        for name in ("a", "b"):
            save(tmp_path / split / name / "x.png", noise(30, 40, 3))
    for _ in range(2):
        load_all(folder_config(tmp_path))
    load_all(folder_config(tmp_path, resize="antialias"))
    assert caplog.text.count("data.resize=antialias averages them") == 1
    assert "6 of 6 images are at least 3 times larger than data.image_size=8" in caplog.text


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


def _not_utf8(file: Path) -> Path:
    """`file` under a name that has a byte of Latin-1."""
    renamed = Path(os.fsdecode(os.fsencode(file.with_name("na")) + b"\xefve" + os.fsencode(file.suffix)))
    return file.rename(renamed)


def test_a_class_whose_name_is_not_utf8_is_named(leaves: Path) -> None:
    _not_utf8(leaves / "train" / "spot")
    with pytest.raises(DataError, match=r"the class na\\xefve is not UTF-8"):
        source(folder_config(leaves).data)


def test_images_may_have_names_that_are_not_utf8(leaves: Path) -> None:
    file = _not_utf8(leaves / "train" / "spot" / "a.jpg")
    assert len(load_all(folder_config(leaves)).train) == 6
    file.write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"na\\xefve\.jpg cannot be read") as caught:
        read_image(file)
    str(caught.value).encode()
