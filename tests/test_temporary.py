"""Temporary files have a folder of their own, which ends with its process, however that ends."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from beans_exp.temporary import LONGEST, keep_own_temporary_folder, own_temporary_folder, remove_abandoned

STAY = """
import tempfile
from pathlib import Path
from beans_exp.temporary import own_temporary_folder
with own_temporary_folder():
    Path(tempfile.mkdtemp(), "model").write_text("large")
    print("ready", flush=True)
    input()
"""


@pytest.fixture(autouse=True)
def _shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shared").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "shared"))
    monkeypatch.setattr(tempfile, "tempdir", None)


def _left() -> list[Path]:
    return list(Path("shared").rglob("model"))


def test_files_end_with_the_block() -> None:
    with own_temporary_folder(), tempfile.NamedTemporaryFile(delete=False) as file:
        assert Path(file.name).parent.parent == Path("shared").absolute()
        with own_temporary_folder():
            assert Path(tempfile.gettempdir()).parent == Path("shared").absolute()
        remove_abandoned()
        assert Path(file.name).exists()
    assert list(Path("shared").iterdir()) == []
    assert tempfile.gettempdir() == str(Path("shared").absolute())


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_needs_stays() -> None:
    root = Path(__file__).parents[1]
    process = subprocess.Popen(
        [sys.executable, "-c", STAY], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGSTOP)
    remove_abandoned()
    assert len(_left()) == 1
    process.kill()
    process.communicate()
    assert len(_left()) == 1
    with own_temporary_folder():
        assert _left() == []


def test_a_path_that_is_too_long_for_sockets_stays_as_it_is() -> None:
    deep = Path("shared", "d" * LONGEST)
    deep.mkdir()
    tempfile.tempdir = str(deep.absolute())
    keep_own_temporary_folder.cache_clear()
    keep_own_temporary_folder()
    assert tempfile.gettempdir() == str(deep.absolute())


def test_a_full_disk_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*words: object, **keys: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", full)
    with own_temporary_folder():
        assert tempfile.gettempdir() == str(Path("shared").absolute())


def test_the_sockets_of_a_pool_are_removed_in_silence() -> None:
    code = """
from multiprocessing import forkserver
from beans_exp.temporary import keep_own_temporary_folder
keep_own_temporary_folder()
forkserver.ensure_running()
"""
    root = Path(__file__).parents[1]
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        variables = os.environ | {"TMPDIR": short}
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, cwd=root, env=variables, capture_output=True, text=True, timeout=120)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert list(Path(short).iterdir()) == []
