"""Fixtures shared by all tests: compositions without a process, and programs started as a user starts them."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from beans_exp import schema
from beans_exp.schema import Config

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

TINY = [
    "data=synthetic",
    "data.image_size=32",
    "data.train_images=12",
    "data.validation_images=6",
    "data.test_images=6",
]
"""Overrides for the smallest data on which the default LeNet can be trained."""

schema.register()


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test works in a folder of its own, with caches of its own and without the variables of whoever runs it."""
    for name in ("TFDS_DATA_DIR", "BEANS_EXP_INCEPTION_WEIGHTS", "KERAS_HOME", "MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")


@pytest.fixture
def composed() -> Iterator[Callable[..., Config]]:
    """Compose overrides as the command line does, to a `Config` whose group rules hold."""
    with initialize_config_dir(str(schema.CONF), version_base="1.3"):
        yield lambda *overrides: schema.to_config(compose("config", list(overrides)))


Program = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """Run `python -m beans_exp` with the given words in the test's folder and return what it printed."""

    def start(*words: str, env: dict[str, str] | None = None, timeout: float = 240) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "beans_exp", *words]
        variables = os.environ | (env or {})
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=variables, timeout=timeout)

    return start
