"""Passwords come from the environment or a file, and no output of a run or a search contains one."""

from pathlib import Path

import pytest

from tests.conftest import TINY, Program

SECRET = "hush-4711"
PLANTED = {"MLFLOW_TRACKING_PASSWORD": SECRET, "MLFLOW_TRACKING_USERNAME": "me", "PGPASSWORD": SECRET}


def _leaks(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file() and SECRET.encode() in file.read_bytes()]


def test_a_search_leaves_no_password(program: Program, tmp_path: Path) -> None:
    words = ["-m", "hydra/sweeper=optuna", *TINY, "trainer.epochs=1", "reg.l2=choice(0.0,0.01)", "confirm.top=0"]
    ended = program(*words, "hydra.sweeper.n_trials=1", "hydra.verbose=true", env=PLANTED)
    assert ended.returncode == 0, ended.stderr
    assert SECRET not in ended.stdout + ended.stderr
    assert list(tmp_path.rglob("overrides.yaml"))
    assert _leaks(tmp_path) == []


@pytest.mark.parametrize(
    "word",
    [
        f"tracking.uri=https://me:{SECRET}@host",
        f"'tracking.uri=postgresql://me:{SECRET}@host/db'",
        f"hydra.sweeper.storage=postgresql://me:{SECRET}@host/db",
        f"+anything=mysql://me@host/db?password={SECRET}",
    ],
)
def test_a_password_on_the_command_line_is_refused(word: str, program: Program, tmp_path: Path) -> None:
    ended = program("data=synthetic", "hydra/sweeper=optuna", word.strip("'"))
    assert ended.returncode == 1
    assert "must be without a password" in ended.stderr and "Traceback" not in ended.stderr
    assert SECRET not in ended.stdout + ended.stderr
    assert not list(tmp_path.iterdir())
