"""Fixtures shared by all tests: composed configurations, and programs started as a user starts them."""

import gc
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra

from beans_exp import schema
from beans_exp.data import Data, Source, Split
from beans_exp.schema import Config
from tests.forked import Command, Forked, run_forked

if TYPE_CHECKING:
    from tests.trained import Store

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")


MEMORY = Path("/dev/shm")
if MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > 4e9:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))  # else databases wait for the disk at each commit

gc.disable()  # while TensorFlow and MLflow are imported; as in `beans_exp.startup.imports`


def pytest_collection_finish() -> None:
    """Exclude everything that was imported from garbage collection."""
    gc.freeze()
    gc.enable()


def pytest_xdist_auto_num_workers() -> int:
    """At least three workers: tests that wait for servers and kills leave cores idle."""
    return max(3, os.cpu_count() or 1)


TINY = [
    "data=synthetic",
    "data.image_size=32",
    "data.train_images=12",
    "data.validation_images=6",
    "data.test_images=6",
]
"""The smallest data on which the default LeNet can be trained."""

SIZE = 75
"""The smallest images that Inception-v3 takes."""
SOURCE = Source("noise", "1", "f" * 64, ("a", "b", "c"), lambda _: iter(()))
"""The source of the images in the fixture `data`."""

schema.register()


@pytest.fixture(scope="session", autouse=True)
def _one_empty_store(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Make new stores from one that all workers share."""
    from tests import stores

    folder = tmp_path_factory.getbasetemp()
    shared = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    os.environ[stores.TEMPLATE] = str(shared / "empty.db")


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test has its own working folder and caches, and none of the caller's variables."""
    for name in (
        "TFDS_DATA_DIR",
        "BEANS_EXP_INCEPTION_WEIGHTS",
        "KERAS_HOME",
        "MLFLOW_TRACKING_URI",
        "MLFLOW_RUN_ID",
        "MLFLOW_EXPERIMENT_NAME",
    ):
        monkeypatch.setenv(name, "")  # so that it is deleted again after the test: MLflow sets some
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")


Composed = Callable[..., Config]


@pytest.fixture
def composed() -> Iterator[Composed]:
    """Compose overrides as the command line does."""
    with initialize_config_dir(str(schema.CONF), version_base="1.3"):
        yield lambda *overrides: schema.to_config(compose("config", list(overrides)))


@pytest.fixture
def loader() -> Iterator[ConfigLoader]:
    """Hydra's config loader for `conf/`."""
    with initialize_config_dir(str(schema.CONF), version_base="1.3"):
        yield GlobalHydra.instance().config_loader()


Program = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """Run `python -m beans_exp` in the test's folder, forked from a process with all libraries; return its output."""

    return partial(run_forked, folder=tmp_path)


@pytest.fixture
def fresh_program(tmp_path: Path) -> Program:
    """Run `python -m beans_exp` in the test's folder, in a process that imports by itself; return its output."""

    def run(*words: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "beans_exp", *words]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=os.environ | env, timeout=240)

    return run


Started = Callable[..., Forked]


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Started]:
    """Start `python -m beans_exp`; return once `until` appears in its output, the file `log`."""
    processes: list[Forked] = []
    log = tmp_path / "log"

    def start(*words: str, until: str) -> Forked:
        log.write_text("")
        processes.append(Forked(Command("beans_exp", list(words), tmp_path, dict(os.environ), log, log)))
        for _ in range(2400):
            if until in log.read_text():
                return processes[-1]
            assert processes[-1].poll() is None, log.read_text()
            time.sleep(0.05)
        raise TimeoutError(log.read_text())

    yield start
    for process in processes:
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file of random weights in the format of pre-trained Inception-v3."""
    import keras

    file = tmp_path_factory.mktemp("weights") / "random_base.weights.h5"
    keras.utils.set_random_seed(7)
    keras.applications.InceptionV3(include_top=False, weights=None, input_shape=(SIZE, SIZE, 3)).save_weights(file)
    return str(file)


@pytest.fixture(scope="session")
def data() -> Data:
    """Noise: 6 training, 3 validation and 3 test images."""

    def split(seed: int, count: int) -> Split:
        images = np.random.default_rng(seed).integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)
        return Split(images, np.arange(count) % 3)

    return Data(SOURCE, SIZE, split(0, 6), split(1, 3), split(2, 3))


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> "Store":
    """A store with a trained run; tests that use it share the xdist group `store`."""
    from tests.trained import trained_store  # TensorFlow is for the workers that train

    return trained_store(tmp_path_factory.mktemp("store"))
