"""An SQLite store that is locked, and disks that are full: what a run logs waits on disk, in order."""

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from beans_exp.errors import StoreUnavailableError
from beans_exp.run import run
from beans_exp.schema import TrackingConfig
from beans_exp.tracking.outbox import DirectSink, Outbox, count_queued, open_sink, send_all_queued
from beans_exp.tracking.parent_run import open_parent
from beans_exp.tracking.reachability import is_reachable
from beans_exp.tracking.store import open_store
from beans_exp.tracking.tracker import Tracker
from beans_exp.training.history import Epoch
from tests.tracking.contract import CONFIG, METRICS, local_runs

FOLDER = Path("outputs/run")
LOCKED = replace(CONFIG, tracking=TrackingConfig(patience=0.2))


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """MLflow waits for 20 seconds where a database is locked, and this project for 5 before it says so."""

    def shorten(conn: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> tuple[str, Any]:
        return statement.replace("busy_timeout = 20000", "busy_timeout = 50"), parameters

    for module in ("outbox", "patience"):
        monkeypatch.setattr(f"beans_exp.tracking.{module}.RETRY_SECONDS", 0.05)
    monkeypatch.setattr("beans_exp.tracking.reachability.SECONDS", 0.1)
    event.listen(Engine, "before_cursor_execute", shorten, retval=True)
    yield
    event.remove(Engine, "before_cursor_execute", shorten)


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/mlruns/mlflow.db"


@pytest.fixture
def client(uri: str) -> mlflow.MlflowClient:
    open_store(uri, "locks")
    return mlflow.MlflowClient(uri)


@contextmanager
def _locked() -> Iterator[None]:
    """Lock the store as another program would."""
    database = sqlite3.connect("mlruns/mlflow.db", isolation_level=None, check_same_thread=False)
    database.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        database.execute("ROLLBACK")
        database.close()


@pytest.mark.parametrize("patience", [30.0, 0.2])
def test_messages_to_a_locked_database_are_delivered_later_in_order(
    patience: float, client: mlflow.MlflowClient, caplog: pytest.LogCaptureFixture
) -> None:
    run_id = client.create_run("1").info.run_id
    sink = open_sink(client, "locks", "f", run_id, FOLDER, patience)
    sink.send("tags", {"note": "first"})
    with _locked():
        sink.send("tags", {"note": "second"})
        sink.send("metrics", {"points": [["loss", 0.5, 1, 1]]})
        if patience < 1:
            sink.close()
            assert count_queued(FOLDER) == 2 and "python -m beans_exp.sync" in caplog.text
    if patience > 1:
        sink.close()
    else:
        assert isinstance(sink, DirectSink) and sink.outbox is not None
        sink.outbox.thread.join()
        assert send_all_queued(FOLDER) == 0
    done = client.get_run(run_id)
    assert done.data.tags["note"] == "second" and done.data.metrics == {"loss": 0.5}
    assert caplog.text.count("is unreachable") == 1 and not (FOLDER / "outbox").exists()


def test_a_run_finishes_although_its_database_is_locked(monkeypatch: pytest.MonkeyPatch) -> None:
    add_epoch, opened = Tracker.add_epoch, _locked()

    def lock_at_epoch(self: Tracker, epoch: Epoch) -> None:
        add_epoch(self, epoch)
        if epoch.step == 1:
            opened.__enter__()

    monkeypatch.setattr(Tracker, "add_epoch", lock_at_epoch)
    value = run(LOCKED, [], FOLDER)
    opened.__exit__(None, None, None)
    monkeypatch.setattr(Tracker, "add_epoch", add_epoch)
    assert local_runs()[0].info.status == "RUNNING" and count_queued(FOLDER) > 5
    assert run(replace(LOCKED, tracking=TrackingConfig()), [], FOLDER) == value, "sent, then reused"
    (done,) = local_runs()
    assert done.info.status == "FINISHED" and set(done.data.metrics) == METRICS


def test_a_locked_database_is_an_error_at_the_start_but_not_in_a_sweep(
    uri: str, client: mlflow.MlflowClient, caplog: pytest.LogCaptureFixture
) -> None:
    parent = open_parent(uri, "locks", open_store(uri, "locks"), "sweep", "name", FOLDER, patience=0.2)
    with _locked():
        with pytest.raises(StoreUnavailableError, match=r"holds a lock on it.*tracking\.patience"):
            open_store(uri, "locks", patience=0.2)
        assert "waiting up to 0.2 seconds (tracking.patience)" in caplog.text
        assert not is_reachable(uri)
        outcomes = parent.outcomes(["a", "b"], [True, None])
        assert [outcome.status for outcome in outcomes] == ["finished", "not run"]
        parent.close(outcomes)
    assert count_queued(FOLDER) > 0
    assert parent.run_id is not None and client.get_run(parent.run_id).info.status == "RUNNING"
    while send_all_queued(FOLDER):
        pass
    assert client.get_run(parent.run_id).info.status == "KILLED"


def test_a_disk_that_stays_full_is_an_error_after_a_bounded_time(client: mlflow.MlflowClient) -> None:
    tries = []

    def full(path: Path) -> None:
        tries.append(path)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def no_room() -> Outbox:
        full(FOLDER)
        raise AssertionError

    sink = DirectSink(client, client.create_run("1").info.run_id, no_room, patience=0.2)
    with pytest.raises(OSError, match="No space left"):
        sink.send("file", {}, "note.txt", full)
    assert len(tries) > 2
