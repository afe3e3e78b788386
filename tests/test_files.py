"""Files that are complete or absent, and targets that are made once."""

import os
import threading
import time
from pathlib import Path
from typing import BinaryIO

import pytest

from beans_exp.files import (
    DamagedError,
    make_once,
    measure_folder,
    open_checked,
    read_json,
    remove,
    require_measured,
    user_path,
    write_checked,
    write_json,
    write_whole,
)

FILE = Path("file.txt")


def _names() -> list[str]:
    return sorted(path.name for path in Path().iterdir() if path.suffix != ".lock")


@pytest.mark.parametrize("content", ["é", "é".encode(), lambda stream: stream.write("é".encode())])
def test_a_file_is_replaced(content: object) -> None:
    FILE.write_text("old")
    write_whole(FILE, content)  # type: ignore[arg-type]
    assert FILE.read_bytes() == "é".encode()
    assert _names() == ["file.txt"]


def test_the_old_file_stays_if_writing_fails() -> None:
    def fail(stream: BinaryIO) -> None:
        stream.write(b"half")
        raise OSError(28, "No space left on device")

    FILE.write_text("old")
    with pytest.raises(OSError, match="No space left"):
        write_whole(FILE, fail)
    assert FILE.read_text() == "old"
    assert _names() == ["file.txt"]


def _record_syncs(monkeypatch: pytest.MonkeyPatch, target: Path) -> list[tuple[str, bool]]:
    """Return the names of everything that is synced from now on, and whether `target` existed at that moment."""
    synced: list[tuple[str, bool]] = []

    def record(descriptor: int) -> None:
        synced.append((Path(f"/proc/self/fd/{descriptor}").readlink().name, target.exists()))

    monkeypatch.setattr(os, "fsync", record)
    return synced


def test_content_is_on_disk_before_it_has_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    synced = _record_syncs(monkeypatch, FILE)
    write_whole(FILE, "new")
    assert synced == [("file.txt.unfinished", False), (Path.cwd().name, True)]


def test_checked_files_are_on_disk_before_they_have_their_name(monkeypatch: pytest.MonkeyPatch) -> None:
    synced = _record_syncs(monkeypatch, FILE)
    write_json(FILE, {"é": [1, 2.5, None]})
    assert synced == [("file.txt.unfinished", False), (Path.cwd().name, True)]
    assert read_json(FILE) == {"é": [1, 2.5, None]}


def test_no_changed_byte_and_no_missing_end_of_a_checked_file_is_overlooked() -> None:
    write_json(FILE, {"run_id": "0123456789", "steps": [1, 2, 3]})
    content = FILE.read_bytes()
    flipped = [bytes(byte ^ (1 << i % 8) * (i == at) for i, byte in enumerate(content)) for at in range(len(content))]
    for damaged in [*flipped, *(content[:size] for size in range(len(content))), content + b" ", bytes(len(content))]:
        FILE.write_bytes(damaged)
        with pytest.raises(DamagedError):
            read_json(FILE)


def test_large_checked_content_is_written_in_parts() -> None:
    parts = [bytes([number]) * 700_000 for number in range(5)]
    write_checked(FILE, lambda stream: [stream.write(part) for part in parts])
    with open_checked(FILE, unchecked=b"PK") as stream:
        assert stream.read() == b"".join(parts)


@pytest.mark.parametrize("content", ['{"a": 1}', '{"a": 1', "", "[1]"])
def test_json_of_versions_without_checksums_is_read_if_it_is_whole(content: str) -> None:
    FILE.write_text(content)
    if content == '{"a": 1}':
        assert read_json(FILE) == {"a": 1}
        return
    with pytest.raises(DamagedError):
        read_json(FILE)


def test_what_a_disk_cannot_read_is_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(stream: BinaryIO) -> None:
        raise OSError(5, "Input/output error")

    write_json(FILE, {})
    monkeypatch.setattr("beans_exp.files.measure", fail)
    with pytest.raises(DamagedError, match="Input/output error"):
        read_json(FILE)
    with pytest.raises(FileNotFoundError):
        read_json(Path("missing"))


def test_every_file_of_a_folder_is_measured() -> None:
    _make(Path("folder"))
    expected = measure_folder(Path("folder"))
    assert list(expected) == ["inner/file"]
    require_measured(Path("folder"), expected)
    for content in ("Content", "conten", ""):
        Path("folder/inner/file").write_text(content)
        with pytest.raises(DamagedError, match="the checksum of inner/file differs"):
            require_measured(Path("folder"), expected)
    Path("folder/inner/file").unlink()
    with pytest.raises(DamagedError, match="No such file"):
        require_measured(Path("folder"), expected)


def _make(path: Path) -> None:
    path.mkdir()
    (path / "inner").mkdir()
    (path / "inner" / "file").write_text("content")


def test_a_target_is_made_once() -> None:
    assert make_once(Path("deep/target"), _make)
    assert not make_once(Path("deep/target"), lambda path: pytest.fail("made twice"))
    assert (Path("deep/target") / "inner" / "file").read_text() == "content"
    assert make_once(FILE, lambda path: write_whole(path, "x"))
    assert FILE.read_text() == "x"


def test_a_target_that_is_not_usable_is_made_again() -> None:
    seen: list[str] = []

    def is_usable(target: Path) -> bool:
        seen.append((target / "inner" / "file").read_text())
        return seen[-1] == "content"

    make_once(Path("target"), _make)
    assert not make_once(Path("target"), _make, is_usable=is_usable)
    (Path("target") / "inner" / "file").write_text("damaged")
    assert make_once(Path("target"), _make, is_usable=is_usable)
    assert (Path("target") / "inner" / "file").read_text() == "content" and seen == ["content", "damaged"]


def test_everything_in_a_target_is_on_disk_before_it_has_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    synced = _record_syncs(monkeypatch, Path("target"))
    make_once(Path("target"), _make)
    assert sorted(synced[:-1]) == [("file", False), ("inner", False), ("target.unfinished", False)]
    assert synced[-1] == (Path.cwd().name, True)


def test_a_failure_leaves_nothing_and_leftovers_are_removed() -> None:
    def fail(path: Path) -> None:
        _make(path)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_once(Path("target"), fail)
    assert _names() == []
    _make(Path("target.unfinished"))  # of a process that was killed
    assert make_once(Path("target"), _make)
    assert _names() == ["target"]


def test_threads_wait_for_the_one_that_makes_a_target() -> None:
    calls: list[int] = []

    def make(path: Path) -> None:
        calls.append(1)
        time.sleep(0.1)
        _make(path)

    def need() -> None:
        gate.wait()
        make_once(Path("target"), make)
        assert (Path("target") / "inner" / "file").exists()
        ends.append(1)

    gate, ends = threading.Barrier(3), list[int]()
    threads = [threading.Thread(target=need) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (len(calls), len(ends)) == (1, 3)


def test_removing_follows_no_links(tmp_path: Path) -> None:
    _make(Path("kept"))
    Path("link").symlink_to(tmp_path / "kept")
    for path in (Path("link"), Path("missing")):
        remove(path)
    assert _names() == ["kept"]
    remove(Path("kept"))
    assert _names() == []


def test_user_paths_are_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert user_path("~/here") == tmp_path / "home" / "here"
    assert user_path("here") == tmp_path / "here"
    assert user_path("~nobody-of-this-name/here").name == "here"
