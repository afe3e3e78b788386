"""Which stores are opened, created and refused."""

import os
import shutil
import sqlite3
import threading
from collections.abc import Callable
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import mlflow
import pytest

from beans_exp.errors import ConfigError, StoreError
from beans_exp.schema import TrackingConfig
from beans_exp.tracking import store
from beans_exp.tracking.store import open_store, store_uri
from tests.forked import CONTEXT, fork
from tests.stores import create


def _open_fresh(answers: "SimpleQueue[str]") -> None:
    store.create_database = create
    answers.put(open_store(store_uri(TrackingConfig()), "shared"))


def test_several_processes_open_a_fresh_store_at_once() -> None:
    answers = CONTEXT.SimpleQueue()
    processes = [fork(_open_fresh, answers) for _ in range(8)]
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * 8
    assert len({answers.get() for _ in processes}) == 1


def _set_revision(file: Path) -> None:
    with sqlite3.connect(file) as database:
        database.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
    database.close()


def _drop_table(file: Path) -> None:
    _set_revision(file)
    with sqlite3.connect(file) as database:
        database.execute("DROP TABLE latest_metrics")
    database.close()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_set_revision, ["mlflow.db", "another version of MLflow wrote it"]),
        (_drop_table, ["mlflow.db", "another version of MLflow wrote it"]),
        (lambda file: file.write_text("not a database"), ["mlflow.db", "is not an SQLite database"]),
    ],
)
def test_a_damaged_store_is_reported_and_left_unchanged(damage: Callable[[Path], object], words: list[str]) -> None:
    open_store(store_uri(TrackingConfig()), "fine")
    file = Path("moved/mlflow.db")  # MLflow checks each store once per process; this one is new
    shutil.copytree("mlruns", "moved")
    damage(file)
    before = file.read_bytes()
    with pytest.raises(StoreError) as error:
        open_store(f"sqlite:///{file.resolve()}", "fine")
    for word in words:
        assert word in str(error.value)
    assert "\n" not in str(error.value)
    assert file.read_bytes() == before


def test_a_store_that_cannot_be_written_is_reported() -> None:
    Path("mlruns").write_text("not a folder")
    with pytest.raises(StoreError, match=r"mlruns.*cannot be written"):
        open_store(store_uri(TrackingConfig()), "fine")


@pytest.mark.parametrize("name", ["../../evil", "/absolute", "a/b", "..", "plain name"])
def test_artifacts_stay_in_the_store_for_any_experiment_name(name: str) -> None:
    uri = store_uri(TrackingConfig())
    experiment = open_store(uri, name)
    place = mlflow.MlflowClient(uri).get_experiment(experiment).artifact_location
    folder = Path(url2pathname(urlsplit(place).path)).resolve()
    assert folder.parent == Path("mlruns/artifacts").resolve()


def test_a_folder_name_that_mlflow_cannot_open_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("a%20b").mkdir()
    monkeypatch.chdir("a%20b")
    with pytest.raises(StoreError, match="has % in its path"):
        open_store(store_uri(TrackingConfig()), "fine")


def test_a_deleted_experiment_is_reported() -> None:
    uri = store_uri(TrackingConfig())
    experiment = open_store(uri, "old")
    mlflow.MlflowClient(uri).delete_experiment(experiment)
    with pytest.raises(StoreError, match=r"old was deleted.*tracking\.experiment"):
        open_store(uri, "old")


def test_a_store_can_be_opened_in_a_thread() -> None:
    answers: list[str] = []
    thread = threading.Thread(target=lambda: answers.append(open_store(store_uri(TrackingConfig()), "threads")))
    thread.start()
    thread.join()
    assert len(answers) == 1


def test_the_store_is_named_by_its_key_then_by_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert store_uri(TrackingConfig()) == f"sqlite:///{tmp_path}/mlruns/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///elsewhere/mlflow.db")
    assert store_uri(TrackingConfig(uri="http://127.0.0.1:5000")) == "http://127.0.0.1:5000"
    assert not caplog.records
    for _ in range(2):
        assert store_uri(TrackingConfig()) == f"sqlite:///{tmp_path}/elsewhere/mlflow.db"
    (line,) = (record.message for record in caplog.records)
    assert line == "the store is sqlite:///elsewhere/mlflow.db, from MLFLOW_TRACKING_URI"


@pytest.mark.parametrize(
    ("uri", "message"), [("./mlruns", "must be an address starting with"), ("http://me:x@host", "without a password")]
)
def test_an_address_of_the_environment_that_is_no_store_is_refused(
    uri: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(ConfigError, match=f"MLFLOW_TRACKING_URI.*{message}"):
        store_uri(TrackingConfig())


def test_the_experiment_is_named_by_its_key_then_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert TrackingConfig().experiment == "beans_exp"
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "leaves")
    assert TrackingConfig().experiment == "leaves"
    assert TrackingConfig(experiment="mine").experiment == "mine"


def test_an_opened_store_does_not_look_like_the_users_choice() -> None:
    open_store(store_uri(TrackingConfig(uri="sqlite:///elsewhere/mlflow.db")), "beans_exp")
    assert "MLFLOW_TRACKING_URI" not in os.environ
