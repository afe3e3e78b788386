"""The cache of resized images: prepared once, complete or absent, and errors that name the file."""

import dataclasses
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from beans_exp.data import SPLITS, Source, Split, load, source
from beans_exp.data.cache_folder import cache_root
from beans_exp.data.prepared import prepare
from beans_exp.errors import DataError
from beans_exp.schema import Config, SweepConfig
from tests.data.builders import prepared_folders, synthetic_config, truncate


def counted(reads: list[str], pause: float = 0, fail_at: str = "", error: BaseException | None = None) -> Source:
    """Three classes with one image each in every split, filled with its label; `reads` records each split read."""

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
def test_another_data_set_has_another_folder(change: dict[str, Any]) -> None:
    reads: list[str] = []
    prepare(counted(reads), 8, None)
    prepare(dataclasses.replace(counted(reads), **change), 8, None)
    assert len(reads) == 2 * len(SPLITS) and len(prepared_folders()) == 2


def test_another_size_has_another_folder() -> None:
    reads: list[str] = []
    assert [prepare(counted(reads), size, None)["test"].images.shape[1] for size in (8, 9)] == [8, 9]
    assert len(prepared_folders()) == 2


def test_prepared_images_are_used_without_their_source() -> None:
    config = Config(data=synthetic_config())
    described = source(config.data)
    first = load(config, described)
    gone = dataclasses.replace(described, read=lambda split: pytest.fail(f"{split} was read again"))
    assert np.array_equal(load(config, gone).train.images, first.train.images)


def test_preparing_holds_one_image_at_a_time() -> None:
    class Pixels(np.ndarray):
        """An array with weak references."""

    images: list[weakref.ref[Pixels]] = []
    most = 0

    def read(split: str) -> Iterator[tuple[np.ndarray, int]]:
        nonlocal most
        for index in range(20):
            image = np.full((8, 8, 3), index, np.uint8).view(Pixels)
            images.append(weakref.ref(image))
            most = max(most, sum(reference() is not None for reference in images))
            yield image, index % 2

    splits = prepare(Source("watched", "1", "abc", ("a", "b"), read), 8, None)
    assert splits["train"].images[:, 0, 0, 0].tolist() == list(range(20))
    assert most <= 2


def test_of_two_threads_one_prepares() -> None:
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
    """A process that is ready to prepare the two images of `CHILD` in the test's cache."""
    command = [sys.executable, "-c", CHILD, dies_at]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stdout.readline() == "ready\n"
    return child


def finish(child: subprocess.Popen[str]) -> str:
    return child.communicate(timeout=60)[0]


def test_of_two_processes_one_prepares() -> None:
    children = [start_child(), start_child()]
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    outputs = [finish(child) for child in children]
    assert [child.returncode for child in children] == [0, 0]
    assert all(output.endswith(f"{8 * 8 * 3}\n") for output in outputs)
    assert Path("reads").read_text().split() == list(SPLITS)


def test_leftovers_of_a_killed_process_are_removed() -> None:
    child = start_child(dies_at="validation")
    child.communicate("go\n", timeout=60)
    assert child.returncode == -signal.SIGKILL
    assert [Path(name).suffix for name in prepared_folders()] == [".unfinished"]
    child = start_child()
    assert child.communicate("go\n", timeout=60)[0].endswith(f"{8 * 8 * 3}\n")
    assert [Path(name).suffix for name in prepared_folders()] == [""]


@pytest.mark.parametrize("error", [DataError("bad.jpg"), KeyboardInterrupt()], ids=["damage", "interrupt"])
def test_failing_to_read_leaves_nothing(error: BaseException) -> None:
    with pytest.raises(type(error)):
        prepare(counted([], fail_at="validation", error=error), 8, None)
    assert prepared_folders() == []
    reads: list[str] = []
    prepare(counted(reads), 8, None)
    assert reads == list(SPLITS)


def test_a_class_without_images_is_named() -> None:
    incomplete = dataclasses.replace(counted([]), classes=("a", "b", "c", "mosaic"))
    with pytest.raises(DataError, match="train split has no image of class mosaic"):
        prepare(incomplete, 8, None)
    assert prepared_folders() == []


@pytest.mark.parametrize("file", ["cache", "cache/data"])
def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, file: str) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text("not a folder")
    with pytest.raises(DataError, match=r"data\.cache_dir or XDG_CACHE_HOME") as caught:
        prepare(counted([]), 8, str(tmp_path / "cache"))
    assert str(tmp_path / "cache" / "data") in str(caught.value)


def test_a_full_disk_is_an_error_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*words: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(DataError, match="No space left") as caught:
        prepare(counted([]), 8, None)
    assert str(cache_root(None)) in str(caught.value)
    assert prepared_folders() == []


def _flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)


def _zero_the_second_half(file: Path) -> None:
    half = file.stat().st_size // 2
    file.write_bytes(file.read_bytes()[:half] + bytes(half))


@pytest.mark.parametrize("name", ["test.images.raw", "train.labels.npy", "checksums.json"])
@pytest.mark.parametrize(
    "damage",
    [_flip_a_bit, _zero_the_second_half, Path.unlink, lambda file: truncate(file, 0), lambda file: truncate(file, 0.5)],
    ids=["flipped", "zeroed", "missing", "emptied", "cut"],
)
def test_a_damaged_cache_is_prepared_again_with_one_warning(
    name: str, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    prepare(counted([]), 8, None)
    [folder] = cache_root(None).glob("data/counted-8-*[!k]")
    damage(folder / name)
    reads: list[str] = []
    splits = prepare(counted(reads), 8, None)
    assert reads == list(SPLITS)
    assert np.array_equal(splits["test"].images[:, 0, 0, 0], [0, 1, 2]) and np.array_equal(
        splits["train"].labels, range(3)
    )
    [line] = [record.getMessage() for record in caplog.records]
    assert line.startswith(str(folder)) and line.endswith("its images are prepared again")
    prepare(counted(reads), 8, None)
    assert reads == list(SPLITS)


def test_a_cache_is_checked_once_for_each_start_of_a_sweep() -> None:
    reads: list[str] = []
    prepare(counted(reads), 8, None, command="sweep 1")
    [folder] = (path for path in cache_root(None).glob("data/counted-8-*") if path.is_dir())
    _flip_a_bit(folder / "test.images.raw")
    assert prepare(counted(reads), 8, None, command="sweep 1")["test"].images[1, 4, 0, 0] != 1, "not looked at again"
    assert prepare(counted(reads), 8, None, command="sweep 2")["test"].images[1, 4, 0, 0] == 1
    assert len(reads) == 2 * len(SPLITS)


def test_the_jobs_of_a_sweep_share_one_check() -> None:
    first = Config(data=synthetic_config(), sweep=SweepConfig(id="s", opened=1))
    described = source(first.data)
    intact = load(first, described).train.images[:].copy()
    [file] = cache_root(None).glob("data/*/train.images.raw")
    _flip_a_bit(file)
    assert not np.array_equal(load(first, described).train.images, intact)
    again = dataclasses.replace(first, sweep=SweepConfig(id="s", opened=2))
    assert np.array_equal(load(again, described).train.images, intact)


def test_a_cache_of_others_that_cannot_be_written_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(counted([]), 8, None)

    def refuse(*words: object, **keys: object) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "write_text", refuse)
    monkeypatch.setattr("beans_exp.data.prepared.make_once", refuse)
    assert len(prepare(counted([]), 8, None, command="sweep 1")["test"]) == 3


def test_the_location_of_the_cache_can_be_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_root("here") == tmp_path / "here"
    assert cache_root("~/here") == tmp_path / "home" / "here"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_root(None) == tmp_path / "xdg" / "beans_exp"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_root(None) == tmp_path / "home" / ".cache" / "beans_exp"
