"""Data sets from folders and drawn, their cache, batches and augmentation; `test_data_beans` has what is TFDS's."""

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from beans_exp.data import SPLITS, Data, Source, Split, load, source
from beans_exp.data.augmentation import augment
from beans_exp.data.batches import ordered_batches, stratified, train_batches
from beans_exp.data.folder import read_image
from beans_exp.data.images import resize
from beans_exp.data.prepared import cache_root, prepare
from beans_exp.errors import DataError
from beans_exp.schema import Config, DataConfig
from beans_exp.schema.names import AUGMENTATIONS
from beans_exp.terminal import progress

RNG = np.random.default_rng(0)


def noise(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def save(file: Path, pixels: np.ndarray, **options: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file, **options)


def folder_config(root: Path, **keys: Any) -> Config:
    return Config(data=DataConfig(name="folder", data_dir=str(root), image_size=8, **keys))


def load_all(config: Config) -> Data:
    return load(config, source(config.data))


def prepared_folders() -> list[str]:
    """What lies in the test's own cache, lock files left out."""
    return [path.name for path in cache_root(None).glob("data/*") if path.suffix != ".lock"]


@pytest.fixture
def leaves(tmp_path: Path) -> Path:
    """A folder of three classes, JPEG and PNG, two images each in every split."""
    root = tmp_path / "leaves"
    for split in SPLITS:
        for name in ("rust", "healthy", "spot"):
            save(root / split / name / "a.jpg", noise(12, 20, 3))
            save(root / split / name / "b.png", noise(9, 8, 3))
    return root


# ---- data=folder


def test_folder_has_sorted_classes_and_every_image(leaves: Path) -> None:
    (leaves / "train" / "rust" / "a.jpg").rename(leaves / "train" / "rust" / "A.JPEG")
    (leaves / "train" / "rust" / ".DS_Store").write_text("not ours")
    (leaves / "train" / "README.txt").write_text("beside the classes")
    data = load_all(folder_config(leaves))
    assert data.classes == ("healthy", "rust", "spot")
    assert data.source.counts == {"train": 6, "validation": 6, "test": 6}
    for split in (data.train, data.validation, data.test):
        assert split.images.shape == (6, 8, 8, 3) and split.images.dtype == np.uint8
        assert split.labels.tolist() == [0, 0, 1, 1, 2, 2] and split.labels.dtype == np.int64
    first = read_image(leaves / "train" / "healthy" / "a.jpg")
    assert np.array_equal(data.train.images[0], resize(first, 8))


def test_validation_may_be_called_val(leaves: Path) -> None:
    (leaves / "validation").rename(leaves / "val")
    assert len(load_all(folder_config(leaves)).validation) == 6


@pytest.mark.parametrize("classes", [2, 5])
def test_folder_may_hold_any_number_of_classes(tmp_path: Path, classes: int) -> None:
    for split in SPLITS:
        for label in range(classes):
            save(tmp_path / split / f"class {label}" / "é.png", noise(8, 8, 3))
    data = load_all(folder_config(tmp_path))
    assert data.classes == tuple(f"class {label}" for label in range(classes))
    assert data.test.labels.tolist() == list(range(classes))


COLOUR = (200, 100, 50)
LOSSLESS = {
    "RGB": (Image.new("RGB", (3, 2), COLOUR), COLOUR),
    "RGBA": (Image.new("RGBA", (3, 2), (*COLOUR, 128)), COLOUR),
    "palette": (Image.new("RGB", (3, 2), COLOUR).quantize(4), COLOUR),
    "palette and alpha": (Image.new("RGBA", (3, 2), (*COLOUR, 128)).quantize(4), COLOUR),
    "grey": (Image.new("L", (3, 2), 90), (90, 90, 90)),
    "grey and alpha": (Image.new("LA", (3, 2), (90, 7)), (90, 90, 90)),
    "16 bit grey": (Image.fromarray(np.full((2, 3), 90 * 256, np.uint16)), (90, 90, 90)),
    "black and white": (Image.new("1", (3, 2), 1), (255, 255, 255)),
}


@pytest.mark.parametrize("kind", LOSSLESS)
def test_png_of_every_kind_becomes_rgb(tmp_path: Path, kind: str) -> None:
    image, colour = LOSSLESS[kind]
    image.save(tmp_path / "x.png")
    pixels = read_image(tmp_path / "x.png")
    assert pixels.shape == (2, 3, 3) and pixels.dtype == np.uint8
    assert np.array_equal(pixels, np.broadcast_to(colour, (2, 3, 3)))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpeg_of_every_kind_becomes_rgb(tmp_path: Path, mode: str) -> None:
    Image.new("RGB", (16, 8), (120, 120, 120)).convert(mode).save(tmp_path / "x.jpg", quality=95)
    pixels = read_image(tmp_path / "x.jpg")
    assert pixels.shape == (8, 16, 3)
    assert np.abs(pixels.astype(int) - 120).max() <= 2


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [(1, lambda a: a), (2, np.fliplr), (3, lambda a: np.rot90(a, 2)), (6, lambda a: np.rot90(a, -1)), (8, np.rot90)],
)
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, upright: Callable) -> None:
    pixels = noise(4, 6, 3)
    exif = Image.Exif()
    exif[0x0112] = orientation
    save(tmp_path / "x.png", pixels, exif=exif)
    assert np.array_equal(read_image(tmp_path / "x.png"), upright(pixels))


def cut(file: Path, part: float) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: int(part * len(content))])


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
    "a file of another kind": (lambda root: (root / "train/rust/notes.txt").touch(), "rust/notes.txt is not an image"),
    "text called jpg": (lambda root: (root / "test/rust/a.jpg").write_text("hello"), "test/rust/a.jpg cannot be read"),
    "empty file": (lambda root: (root / "test/rust/a.jpg").write_bytes(b""), "test/rust/a.jpg cannot be read"),
    "truncated jpg": (lambda root: cut(root / "validation/spot/a.jpg", 0.7), "validation/spot/a.jpg cannot be read"),
    "truncated png": (lambda root: cut(root / "test/spot/b.png", 0.7), "test/spot/b.png cannot be read"),
    "header only": (lambda root: cut(root / "train/spot/b.png", 0.1), "train/spot/b.png cannot be read"),
    "a folder called jpg": (lambda root: (root / "train/rust/c.jpg").mkdir(), "train/rust/c.jpg cannot be read"),
    "a dangling link": (lambda root: (root / "train/rust/c.jpg").symlink_to("gone"), "train/rust/c.jpg cannot be read"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_bad_folder_is_an_error_that_names_the_file(leaves: Path, kind: str) -> None:
    damage, words = DAMAGE[kind]
    damage(leaves)
    with pytest.raises(DataError) as caught:
        load_all(folder_config(leaves))
    assert str(leaves.parent / words) in str(caught.value) or words in str(caught.value)
    assert str(leaves) in str(caught.value)
    assert prepared_folders() == []


@pytest.mark.parametrize("method", ["open", "iterdir"])
def test_what_may_not_be_read_is_named(leaves: Path, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = leaves / {"open": "test/rust/a.jpg", "iterdir": "test/rust"}[method]
    real = getattr(Path, method)

    def guarded(path: Path, *words: Any) -> Any:
        if path == closed:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *words)

    monkeypatch.setattr(Path, method, guarded)
    with pytest.raises(DataError, match="Permission denied") as caught:
        source(folder_config(leaves).data)
    assert str(closed) in str(caught.value)


# ---- digests


def folder_digest(root: Path) -> str:
    return source(folder_config(root).data).digest


def test_digest_ignores_place_and_time(leaves: Path, tmp_path: Path) -> None:
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
    ids=["content", "name", "class", "one less"],
)
def test_digest_follows_the_content(leaves: Path, change: Callable[[Path], Any]) -> None:
    before = folder_digest(leaves)
    change(leaves)
    assert folder_digest(leaves) != before


# ---- data=synthetic


def drawn(**keys: Any) -> DataConfig:
    counts = {"train_images": 9, "validation_images": 3, "test_images": 4}
    return DataConfig(**{"name": "synthetic", "image_size": 32, "draw_seed": 0, **counts, **keys})


@pytest.mark.parametrize("size", [8, 32, 40])
def test_synthetic_is_drawn_at_any_size(size: int) -> None:
    data = load_all(Config(data=drawn(image_size=size)))
    assert [len(data.train), len(data.validation), len(data.test)] == [9, 3, 4]
    assert data.train.images.shape == (9, size, size, 3)
    assert sorted(data.train.labels.tolist()) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert len({image.tobytes() for split in (data.train, data.test) for image in split.images}) == 13


def test_synthetic_follows_its_seed(tmp_path: Path) -> None:
    def images(name: str, seed: int) -> np.ndarray:
        return load_all(Config(data=drawn(cache_dir=str(tmp_path / name), draw_seed=seed))).train.images

    assert np.array_equal(images("a", 1), images("b", 1))
    assert not np.array_equal(images("a", 1), images("a", 2))


def test_synthetic_digest_follows_what_is_drawn() -> None:
    digest = source(drawn()).digest
    for key, value in {"image_size": 33, "draw_seed": 1, "train_images": 10, "test_images": 5}.items():
        assert source(drawn(**{key: value})).digest != digest, key
    assert source(drawn(train_fraction=0.5, cache_dir="elsewhere")).digest == digest


# ---- the cache of resized images


def counted(reads: list[str], pause: float = 0, fail_at: str = "", error: BaseException | None = None) -> Source:
    """Three classes, one image each in every split, whose values name the label; `reads` hears of each reading."""

    def read(split: str) -> Iterator[tuple[np.ndarray, int]]:
        reads.append(split)
        for label in range(3):
            if split == fail_at and label == 1 and error is not None:
                raise error
            time.sleep(pause)
            yield np.full((10, 12, 3), label, np.uint8), label

    return Source("counted", "1", "abc", ("a", "b", "c"), read)


def test_images_are_read_once_and_mapped_afterwards() -> None:
    reads: list[str] = []
    for _ in range(2):
        splits = prepare(counted(reads), 8, None)
        assert reads == list(SPLITS)
        for split in splits.values():
            assert np.array_equal(split.images[:, 0, 0, 0], [0, 1, 2]) and split.images.shape == (3, 8, 8, 3)
            assert np.array_equal(split.labels, [0, 1, 2]) and len(split) == 3
            assert isinstance(split.images, np.memmap) and not split.images.flags.writeable
    assert len(prepared_folders()) == 1


@pytest.mark.parametrize("change", [{"digest": "other"}, {"classes": ("a", "b", "d")}, {"name": "other"}])
def test_another_data_set_has_another_place(change: dict[str, Any]) -> None:
    reads: list[str] = []
    prepare(counted(reads), 8, None)
    prepare(dataclasses.replace(counted(reads), **change), 8, None)
    assert len(reads) == 2 * len(SPLITS) and len(prepared_folders()) == 2


def test_another_size_has_another_place() -> None:
    reads: list[str] = []
    assert [prepare(counted(reads), size, None)["test"].images.shape[1] for size in (8, 9)] == [8, 9]
    assert len(prepared_folders()) == 2


def test_cached_data_need_no_source() -> None:
    config = Config(data=drawn())
    described = source(config.data)
    first = load(config, described)
    gone = dataclasses.replace(described, read=lambda split: pytest.fail(f"{split} is read again"))
    assert np.array_equal(load(config, gone).train.images, first.train.images)


def test_preparing_holds_one_image_at_a_time() -> None:
    class Pixels(np.ndarray):
        """An array that can be watched."""

    watched: list[weakref.ref[Pixels]] = []
    most = 0

    def read(split: str) -> Iterator[tuple[np.ndarray, int]]:
        nonlocal most
        for place in range(20):
            image = np.full((8, 8, 3), place, np.uint8).view(Pixels)
            watched.append(weakref.ref(image))
            most = max(most, sum(one() is not None for one in watched))
            yield image, place % 2

    splits = prepare(Source("watched", "1", "abc", ("a", "b"), read), 8, None)
    assert splits["train"].images[:, 0, 0, 0].tolist() == list(range(20))
    assert most <= 2


def test_two_threads_prepare_once() -> None:
    reads: list[str] = []
    gate = threading.Barrier(2)
    results: list[dict[str, Split]] = []

    def work() -> None:
        gate.wait()
        results.append(prepare(counted(reads, pause=0.02), 8, None))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert reads == list(SPLITS)
    assert np.array_equal(results[0]["test"].images, results[1]["test"].images)


CHILD = """
import os, sys, time
import numpy as np
from beans_exp.data.prepared import prepare
from beans_exp.data.source import Source

def read(split):
    with open("reads", "a") as file:
        file.write(f"{split}\\n")
    for label in range(2):
        if split == sys.argv[1]:
            os.kill(os.getpid(), 9)
        time.sleep(0.05)
        yield np.full((8, 8, 3), label, np.uint8), label

source = Source("child", "1", "abc", ("a", "b"), read)
print("ready", flush=True)
input()
print(prepare(source, 8, None)["test"].images.sum())
"""


def start_child(dies_at: str = "never") -> subprocess.Popen[str]:
    """A process that stands ready to prepare the two images of `CHILD` in the test's cache."""
    command = [sys.executable, "-c", CHILD, dies_at]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stdout.readline() == "ready\n"
    return child


def finish(child: subprocess.Popen[str]) -> str:
    return child.communicate(timeout=60)[0]


def test_two_processes_prepare_once() -> None:
    children = [start_child(), start_child()]
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    outputs = [finish(child) for child in children]
    assert [child.returncode for child in children] == [0, 0]
    assert all(output.endswith(f"{8 * 8 * 3}\n") for output in outputs)
    assert Path("reads").read_text().split() == list(SPLITS)


def test_what_a_killed_process_left_does_not_hurt() -> None:
    child = start_child(dies_at="validation")
    child.communicate("go\n", timeout=60)
    assert child.returncode == -signal.SIGKILL
    assert [Path(name).suffix for name in prepared_folders()] == [".unfinished"]
    child = start_child()
    assert child.communicate("go\n", timeout=60)[0].endswith(f"{8 * 8 * 3}\n")
    assert [Path(name).suffix for name in prepared_folders()] == [""]


@pytest.mark.parametrize("error", [DataError("bad.jpg"), KeyboardInterrupt()], ids=["damage", "interrupt"])
def test_a_failed_reading_leaves_nothing(error: BaseException) -> None:
    with pytest.raises(type(error)):
        prepare(counted([], fail_at="validation", error=error), 8, None)
    assert prepared_folders() == []
    reads: list[str] = []
    prepare(counted(reads), 8, None)
    assert reads == list(SPLITS)


def test_a_class_without_images_is_named() -> None:
    lacking = dataclasses.replace(counted([]), classes=("a", "b", "c", "mosaic"))
    with pytest.raises(DataError, match="train split has no image of class mosaic"):
        prepare(lacking, 8, None)
    assert prepared_folders() == []


@pytest.mark.parametrize("file", ["cache", "cache/data"])
def test_cache_that_cannot_be_written_is_named(tmp_path: Path, file: str) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text("in the way, as a folder without permission would be")
    with pytest.raises(DataError, match=r"data\.cache_dir or XDG_CACHE_HOME") as caught:
        prepare(counted([]), 8, str(tmp_path / "cache"))
    assert str(tmp_path / "cache" / "data") in str(caught.value)


def test_full_disk_is_an_error_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*words: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(DataError, match="No space left") as caught:
        prepare(counted([]), 8, None)
    assert str(cache_root(None)) in str(caught.value)
    assert prepared_folders() == []


@pytest.mark.parametrize("name", ["test.images.raw", "train.labels.npy"])
@pytest.mark.parametrize("part", [0, 0.5])
def test_damaged_cache_is_named(name: str, part: float) -> None:
    prepare(counted([]), 8, None)
    [folder] = cache_root(None).glob("data/counted-8-*[!k]")
    cut(folder / name, part)
    with pytest.raises(DataError) as caught:
        prepare(counted([]), 8, None)
    assert f"{folder / name} is damaged" in str(caught.value) and f"Remove {folder}" in str(caught.value)
    shutil.rmtree(folder)
    assert len(prepare(counted([]), 8, None)["test"]) == 3


def test_cache_lies_where_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_root("here") == tmp_path / "here"
    assert cache_root("~/here") == tmp_path / "home" / "here"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_root(None) == tmp_path / "xdg" / "beans_exp"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_root(None) == tmp_path / "home" / ".cache" / "beans_exp"


# ---- resizing


@pytest.mark.parametrize(("height", "width", "size"), [(13, 17, 8), (5, 4, 9), (8, 20, 8)])
def test_resize_is_bilinear_and_rounded(height: int, width: int, size: int) -> None:
    image = noise(height, width, 3)
    expected = np.rint(tf.image.resize(image, (size, size), "bilinear").numpy()).astype(np.uint8)
    resized = resize(image, size)
    assert resized.dtype == np.uint8 and np.array_equal(resized, expected)


def test_resize_leaves_an_image_of_the_size_alone() -> None:
    image = noise(8, 8, 3)
    assert np.array_equal(resize(image, 8), image)


def test_resize_keeps_values_in_bounds() -> None:
    assert resize(np.array([[[-5.0, 254.6, 300.0]]]), 2).tolist() == [[[0, 255, 255]] * 2] * 2


# ---- train_fraction


def numbered(*counts: int, size: int = 8) -> Split:
    """A split with `counts` images a class; every value of an image is its place."""
    labels = np.repeat(np.arange(len(counts)), counts)
    images = np.broadcast_to(np.arange(len(labels), dtype=np.uint8)[:, None, None, None], (len(labels), size, size, 3))
    return Split(images, labels)


def places(split: Split) -> list[int]:
    return split.images[:, 0, 0, 0].tolist()


@pytest.mark.parametrize(
    ("fraction", "expected"), [(1, [20, 40, 6]), (0.5, [10, 20, 3]), (0.1, [2, 4, 1]), (0.001, [1, 1, 1])]
)
def test_fraction_is_stratified(fraction: float, expected: list[int]) -> None:
    part = stratified(numbered(20, 40, 6), fraction, seed=3)
    assert np.bincount(part.labels).tolist() == expected
    assert places(part) == sorted(set(places(part)))
    assert part.labels.tolist() == [numbered(20, 40, 6).labels[place] for place in places(part)]


def test_fraction_follows_the_seed() -> None:
    split = numbered(20, 40, 6)
    assert places(stratified(split, 0.5, 1)) == places(stratified(split, 0.5, 1))
    assert places(stratified(split, 0.5, 1)) != places(stratified(split, 0.5, 2))


def test_fraction_cuts_the_training_split_only() -> None:
    data = load_all(Config(data=drawn(train_fraction=0.34)))
    assert np.bincount(data.train.labels).tolist() == [1, 1, 1]
    assert [len(data.validation), len(data.test)] == [3, 4]


# ---- batches


def drawn_order(split: Split, batch_size: int, seed: int, epochs: range) -> list[list[int]]:
    """The places of the images, batch by batch."""
    batches: list[list[int]] = []
    for images, labels in train_batches(split, batch_size, seed, epochs):
        assert images.dtype == tf.float32 and images.shape[1:] == split.images.shape[1:]
        found = images[:, 0, 0, 0].numpy().astype(int)
        assert labels.numpy().tolist() == split.labels[found].tolist()
        batches.append(found.tolist())
    return batches


@pytest.mark.parametrize("seed", [0, 2**32 - 1])
def test_every_epoch_has_every_image_once_in_an_order_of_its_own(seed: int) -> None:
    batches = drawn_order(numbered(6, 4), 4, seed, range(3))
    assert [len(batch) for batch in batches] == [4, 4, 2] * 3  # no batch crosses an epoch
    epochs = [list(chain(*batches[start : start + 3])) for start in (0, 3, 6)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_order_follows_the_seed() -> None:
    split = numbered(6, 4)
    assert drawn_order(split, 4, 1, range(2)) == drawn_order(split, 4, 1, range(2))
    assert drawn_order(split, 4, 1, range(2)) != drawn_order(split, 4, 2, range(2))


def test_order_does_not_depend_on_the_batch_size() -> None:
    split = numbered(6, 4)
    by_three, by_ten = (list(chain(*drawn_order(split, size, 1, range(2)))) for size in (3, 10))
    assert by_three == by_ten


def collected(split: Split, batch_size: int, epochs: range, kinds: tuple[str, ...], seed: int = 1) -> np.ndarray:
    """The augmented images of all epochs in a row; labels are the images' places."""
    images, labels = zip(*train_batches(split, batch_size, seed, epochs, kinds), strict=True)
    order = np.concatenate([part.numpy() for part in labels]).reshape(len(epochs), -1).argsort(axis=1)
    stacked = np.concatenate([part.numpy() for part in images]).reshape(len(epochs), -1, *split.images.shape[1:])
    return np.stack([epoch[places] for epoch, places in zip(stacked, order, strict=True)])


def test_a_stream_that_goes_on_equals_one_from_the_start() -> None:
    split = numbered(6, 4)
    assert drawn_order(split, 4, 7, range(3, 6)) == drawn_order(split, 4, 7, range(6))[9:]
    pictures = Split(noise(6, 8, 8, 3), np.arange(6))
    assert np.array_equal(
        collected(pictures, 4, range(2, 4), AUGMENTATIONS), collected(pictures, 4, range(4), AUGMENTATIONS)[2:]
    )


def test_ordered_batches_keep_the_order() -> None:
    split = numbered(3, 4)
    batches = list(ordered_batches(split, 3))
    assert [images[:, 0, 0, 0].numpy().tolist() for images, _ in batches] == [[0, 1, 2], [3, 4, 5], [6]]
    assert np.concatenate([labels.numpy() for _, labels in batches]).tolist() == [0, 0, 0, 1, 1, 1, 1]
    assert {images.dtype for images, _ in batches} == {tf.float32}


def test_pipelines_run_without_the_tuner() -> None:
    split = numbered(3, 4)  # its thread holds up the end of an iterator for seconds, now and then
    for dataset in (train_batches(split, 3, 0, range(1)), ordered_batches(split, 3)):
        assert dataset.options().autotune.enabled is False


def test_unaugmented_batches_are_the_images_themselves() -> None:
    split = Split(noise(5, 8, 8, 3), np.arange(5))
    assert np.array_equal(collected(split, 2, range(1), ())[0], split.images)


# ---- augmentation


traced = tf.function(augment)  # as `tf.data` runs it


def augmented(images: np.ndarray, kinds: tuple[str, ...], seed: int = 1, epoch: int = 0, first: int = 0) -> np.ndarray:
    index = tf.range(first, first + len(images), dtype=tf.int64)
    return traced(tf.constant(images), index, kinds, seed, tf.constant(epoch, tf.int64)).numpy()


def symmetric_versions(image: np.ndarray) -> set[bytes]:
    """The eight ways to lay a square picture on itself."""
    turned = [np.rot90(image, times) for times in range(4)]
    return {np.ascontiguousarray(version).tobytes() for one in turned for version in (one, np.fliplr(one))}


FLIPPED = (lambda a: a, np.fliplr, np.flipud, lambda a: np.rot90(a, 2))
TURNED = (lambda a: a, np.rot90, lambda a: np.rot90(a, 2), lambda a: np.rot90(a, 3))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize(
    ("kinds", "ways"),
    [(("flip",), FLIPPED), (("turn",), TURNED), (("flip", "turn"), None)],
    ids=["flip", "turn", "both"],
)
def test_flips_and_turns_give_every_exact_version_about_equally_often(
    kinds: tuple[str, ...], ways: tuple[Callable, ...] | None, dtype: type
) -> None:
    image = noise(8, 8, 3).astype(np.float32)
    expected = {np.ascontiguousarray(way(image)).tobytes() for way in ways} if ways else symmetric_versions(image)
    found = Counter(version.tobytes() for version in augmented(np.stack([image] * 160).astype(dtype), kinds))
    assert set(found) == expected
    assert min(found.values()) > 160 / len(expected) / 2


@pytest.mark.parametrize("kind", AUGMENTATIONS)
def test_augmentation_is_a_function_of_seed_epoch_and_image(kind: str) -> None:
    images = noise(12, 8, 8, 3)
    whole = augmented(images, (kind,))
    assert whole.dtype == np.float32 and whole.shape == images.shape
    assert whole.min() >= 0 and whole.max() <= 255
    assert not np.array_equal(whole, images)
    assert np.array_equal(augmented(images, (kind,)), whole)
    assert np.array_equal(augmented(images[5:8], (kind,), first=5), whole[5:8])
    assert not np.array_equal(augmented(images, (kind,), epoch=1), whole)
    assert not np.array_equal(augmented(images, (kind,), seed=2), whole)
    assert not np.array_equal(augmented(images, (kind,), first=12), whole)


@pytest.mark.parametrize("kind", ["zoom", "contrast", "brightness"])
def test_no_image_is_changed_like_its_neighbour(kind: str) -> None:
    changed = augmented(np.stack([noise(8, 8, 3)] * 20), (kind,))
    assert len({image.tobytes() for image in changed}) == 20


@pytest.mark.parametrize("value", [0, 255])
def test_changed_values_stay_in_bounds(value: int) -> None:
    images = np.full((50, 8, 8, 3), value, np.uint8)
    images[:, :4] = 128
    changed = augmented(images, AUGMENTATIONS)
    assert changed.min() >= 0 and changed.max() <= 255


def test_augmentation_does_not_depend_on_the_batch_size() -> None:
    split = Split(noise(7, 8, 8, 3), np.arange(7))
    by_two, by_five = (collected(split, size, range(2), AUGMENTATIONS) for size in (2, 5))
    assert np.array_equal(by_two, by_five)
    assert not np.array_equal(by_two[0], by_two[1])


def test_order_of_the_kinds_is_fixed() -> None:
    images = noise(4, 8, 8, 3)
    assert np.array_equal(augmented(images, AUGMENTATIONS), augmented(images, AUGMENTATIONS[::-1]))


# ---- the progress bar


@pytest.mark.parametrize("total", [None, 3])
def test_progress_yields_everything_and_leaves_a_line(total: int | None, capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress(iter("abc"), "reading", total)) == ["a", "b", "c"]
    [line] = capsys.readouterr().out.strip().splitlines()
    assert line.startswith("reading") and "3/3" in line
