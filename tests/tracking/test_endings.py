"""After training nothing costs the training: which endings keep checkpoint and id, and what never ends a run."""

import errno
import logging
import os
from pathlib import Path

import mlflow
import pytest
from mlflow.entities import Run

from beans_exp import run as run_module
from beans_exp.errors import BeansExpError, DivergedError, PrunedError, StorageError
from beans_exp.run import run
from beans_exp.run_folder import CHECKPOINT
from beans_exp.tracking.best_model import has_model
from beans_exp.tracking.endings import statuses
from beans_exp.tracking.tracker import Tracker
from tests.tracking.contract import ARTIFACTS, CONFIG, METRICS, local_runs

FOLDER = Path("outputs/run")
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
LOCKED = mlflow.MlflowException("database is locked", error_code=9999)


def _fail_once(patch: pytest.MonkeyPatch, place: object, name: str, error: BaseException) -> None:
    """Make the first call of `place.name` raise `error`."""
    original, errors = getattr(place, name), [error]

    def fail(*words: object, **keys: object) -> object:
        if errors:
            raise errors.pop()
        return original(*words, **keys)

    patch.setattr(place, name, fail)


def _require_complete(done: Run) -> None:
    client = mlflow.MlflowClient(mlflow.get_tracking_uri())
    assert (done.info.status, done.data.tags["beans.status"]) == ("FINISHED", "finished")
    assert "beans.cause" not in done.data.tags and set(done.data.metrics) == METRICS and has_model(done)
    assert {item.path for item in client.list_artifacts(done.info.run_id)} == ARTIFACTS
    for name in ("train/loss", "val/accuracy"):
        assert [point.step for point in client.get_metric_history(done.info.run_id, name)] == [1, 2]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (FULL, "killed"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), "killed"),
        (LOCKED, "killed"),
        (RuntimeError("unable to close file (errno = 28, error message = 'No space left on device')"), "killed"),
        (MemoryError("too large"), "oom"),
        (ValueError("no such layer"), "failed"),
        (KeyboardInterrupt(), "killed"),
    ],
    ids=["full disk", "pipe", "store", "full disk by HDF5", "oom", "failed", "interrupt"],
)
def test_a_run_that_ends_without_a_result_is_resumed_under_its_id(
    error: BaseException, status: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _fail_once(monkeypatch, run_module, "evaluate", error)
    expected = StorageError if status == "killed" and isinstance(error, Exception) else type(error)
    with pytest.raises(expected) as raised:
        run(CONFIG, [], FOLDER)
    assert expected is not StorageError or "run the same command again" in str(raised.value)
    (left,) = local_runs()
    assert left.data.tags["beans.status"] == status and "beans.cause" in left.data.tags
    assert (FOLDER / CHECKPOINT).exists()
    with caplog.at_level(logging.INFO):
        run(CONFIG, [], FOLDER)
    assert f"resuming {status} run {left.info.run_id} after epoch 2" in caplog.text, "nothing is trained again"
    (done,) = local_runs()
    assert done.info.run_id == left.info.run_id and not (FOLDER / CHECKPOINT).exists()
    _require_complete(done)


@pytest.mark.parametrize("error", [DivergedError("the loss became nan"), PrunedError("worse")])
def test_a_result_needs_no_checkpoint(error: BeansExpError, monkeypatch: pytest.MonkeyPatch) -> None:
    _fail_once(monkeypatch, run_module, "evaluate", error)
    with pytest.raises(type(error)):
        run(CONFIG, [], FOLDER)
    assert not (FOLDER / CHECKPOINT).exists()


@pytest.mark.parametrize(
    ("place", "name", "missing"),
    [
        ("beans_exp.tracking.tracker", "confusion_matrix", {"confusion_matrix.png"}),
        ("beans_exp.tracking.figures", "curves", {"curves.png"}),
        ("beans_exp.run", "write_progress", set()),
        ("beans_exp.run", "model_metrics", {"model/parameters"}),
    ],
)
def test_figures_status_lines_and_metrics_never_cost_a_run(
    place: str, name: str, missing: set[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    error = FULL if name == "write_progress" else ValueError("it cannot be drawn")

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(f"{place}.{name}", fail)
    run(CONFIG, [], FOLDER)
    (done,) = local_runs()
    assert done.info.status == "FINISHED" and has_model(done)
    client = mlflow.MlflowClient(mlflow.get_tracking_uri())
    found = {item.path for item in client.list_artifacts(done.info.run_id)} | set(done.data.metrics)
    assert not missing & found
    assert bool(missing) == ("missing: ValueError: it cannot be drawn" in caplog.text)


def test_the_model_is_saved_before_anything_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    saved = []

    def note(self: Tracker, *_: object) -> None:
        saved.append(has_model(mlflow.MlflowClient(mlflow.get_tracking_uri()).get_run(self.run_id)))

    monkeypatch.setattr(Tracker, "_draw", note)
    run(CONFIG, [], FOLDER)
    assert saved == [True, True]


def test_an_end_that_cannot_be_written_hides_no_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise FULL

    monkeypatch.setattr(Tracker, "end", fail)
    _fail_once(monkeypatch, run_module, "evaluate", ValueError("the first"))
    with pytest.raises(ValueError, match="the first"):
        run(CONFIG, [], FOLDER)
    assert "could not be written: OSError" in caplog.text and (FOLDER / CHECKPOINT).exists()


def test_a_user_error_is_no_storage_error() -> None:
    assert statuses(ValueError("a bug"))[0] == "failed" and statuses(SystemExit(143))[0] == "killed"
