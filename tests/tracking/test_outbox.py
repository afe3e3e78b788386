"""A server that goes away, comes back, or was never there: nothing of a run is lost, and nothing is there twice."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest
from mlflow.entities import Run

from beans_exp import sync
from beans_exp.errors import ServerUnreachableError
from beans_exp.run import run
from beans_exp.schema import Config, SweepConfig, TrackingConfig
from beans_exp.tracking import outbox
from beans_exp.tracking.best_model import has_model
from beans_exp.tracking.messages import Message, deliver
from beans_exp.tracking.outbox import DirectSink, MessageQueue, Outbox, new_queue, send_queued
from beans_exp.tracking.registry import model_of_run
from beans_exp.tracking.tracker import Tracker
from beans_exp.training.history import Epoch
from tests.servers import Restartable, mlflow_server
from tests.tracking.test_tracker import ARTIFACTS, CONFIG, METRICS

pytestmark = pytest.mark.xdist_group("outbox")  # one server for all
FOLDER = Path("outputs/run")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Restartable]:
    """An MLflow server that can be stopped and started again at the same address."""
    with mlflow_server(tmp_path_factory.mktemp("server")) as started:
        yield started


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "WAIT_SECONDS", 0.5)
    monkeypatch.setattr(outbox, "RETRY_SECONDS", 0.1)


def _config(server: Restartable, experiment: str, *, offline: bool = False) -> Config:
    tracking = TrackingConfig(name="server", uri=server.address, experiment=experiment, offline=offline)
    return replace(CONFIG, tracking=tracking)


def _require_whole(server: Restartable, experiment: str) -> Run:
    """Everything that a run logs is in its run, each point of its curves once."""
    client = mlflow.MlflowClient(server.address)
    found = client.get_experiment_by_name(experiment)
    runs = [run for run in client.search_runs([found.experiment_id]) if "beans.role" not in run.data.tags]
    assert len(runs) == 1
    (one,) = runs
    assert one.info.status == "FINISHED" and one.data.tags["beans.status"] == "finished"
    assert set(one.data.metrics) == METRICS
    assert {item.path for item in client.list_artifacts(one.info.run_id)} >= ARTIFACTS
    for name in ("train/loss", "val/accuracy", "stage"):
        assert [point.step for point in client.get_metric_history(one.info.run_id, name)] == [1, 2]
    assert one.data.params["reg.l2"] == "0.01" and one.inputs.dataset_inputs
    mlflow.set_tracking_uri(server.address)
    assert has_model(one) and model_of_run(client, one.info.run_id).output_shape == (None, 3)
    return one


def _at_epoch(monkeypatch: pytest.MonkeyPatch, events: dict[int, Callable[[], None]]) -> None:
    """Call what `events` says when an epoch has ended."""
    hear = Tracker.add_epoch

    def heard(self: Tracker, epoch: Epoch) -> None:
        hear(self, epoch)
        self.flush()
        events.get(epoch.step, lambda: None)()

    monkeypatch.setattr(Tracker, "add_epoch", heard)


def test_a_run_whose_server_goes_away_is_whole_after_sync(
    server: Restartable,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    _at_epoch(monkeypatch, {1: server.stop})
    with caplog.at_level(logging.WARNING):
        value = run(_config(server, "away"), ["seed=3"], FOLDER)
    assert isinstance(value, float)
    assert "does not take what the run logs" in caplog.text and "python -m beans_exp.sync" in caplog.text
    with pytest.raises(SystemExit):
        sync.main([])
    server.start()
    sync.main(["outputs"])
    assert "letters sent" in capsys.readouterr().out
    _require_whole(server, "away")
    assert not (FOLDER / "outbox").exists()
    sync.main([])
    assert "nothing waits" in capsys.readouterr().out


def test_a_server_that_comes_back_is_told_what_it_missed(server: Restartable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "WAIT_SECONDS", 120.0)
    _at_epoch(monkeypatch, {1: server.stop, 2: server.start})
    run(_config(server, "back"), [], FOLDER)
    _require_whole(server, "back")


def test_a_server_that_was_never_there_is_an_error_unless_offline(
    server: Restartable, caplog: pytest.LogCaptureFixture
) -> None:
    server.stop()
    try:
        with pytest.raises(ServerUnreachableError, match=r"tracking\.offline=true"):
            run(_config(server, "never"), [], FOLDER)
        with caplog.at_level(logging.INFO):
            offline = _config(server, "never", offline=True)
            value = run(offline, [], FOLDER)
            epochs = caplog.text.count("epoch")
            assert run(offline, [], FOLDER) == value  # the finished one is known by its letters
            assert caplog.text.count("epoch") == epochs
    finally:
        server.start()
    assert run(_config(server, "never"), [], FOLDER) == value  # sends what was kept, and reuses it
    _require_whole(server, "never")


def test_a_child_without_its_parent_finds_it_by_the_sweep(server: Restartable) -> None:
    server.stop()
    child = replace(_config(server, "family"), sweep=SweepConfig(id="5" * 16))
    run(child, [], FOLDER)
    server.start()
    assert send_queued(FOLDER)[0] > 5
    tags = _require_whole(server, "family").data.tags
    parent = mlflow.MlflowClient(server.address).get_run(tags["mlflow.parentRunId"])
    assert parent.data.tags["beans.sweep"] == "5" * 16 and parent.data.tags["beans.role"] == "sweep"


@pytest.fixture
def run_id(server: Restartable) -> str:
    client = mlflow.MlflowClient(server.address)
    return str(client.create_run("0").info.run_id)


def test_a_letter_that_is_delivered_twice_changes_nothing(server: Restartable, run_id: str) -> None:
    client = mlflow.MlflowClient(server.address)
    for _ in range(2):
        deliver(client, run_id, Message("metrics", {"points": [["loss", 0.5, 1, 1], ["loss", 0.25, 2, 2]]}))
        deliver(client, run_id, Message("params", {"seed": "3"}))
    assert [(one.step, one.value) for one in client.get_metric_history(run_id, "loss")] == [(1, 0.5), (2, 0.25)]


def test_a_letter_that_is_refused_is_kept_and_the_next_ones_arrive(
    server: Restartable, run_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    letters = new_queue(FOLDER, server.address, "Default", "f", run_id, None)
    box = Outbox(letters)
    box.send("params", {"seed": "3"})
    box.send("params", {"seed": "4"})  # a parameter cannot change
    box.send("tags", {"note": "after"})
    box.close()
    assert mlflow.MlflowClient(server.address).get_run(run_id).data.tags["note"] == "after"
    assert "refuses" in caplog.text and len(letters.refused) == 1


def test_letters_survive_their_writer(server: Restartable, run_id: str) -> None:
    letters = new_queue(FOLDER, server.address, "Default", "f", run_id, None)
    letters.add("metrics", {"points": [["loss", 0.5, 1, 1]]}, "", None)
    letters.add("file", {}, "note.txt", lambda path: outbox.write_text(path, "hello"))
    (letters.folder / "000002").mkdir()  # its writer was killed
    (found,) = MessageQueue.found(FOLDER)
    assert found.logged == {("loss", 1)}
    assert send_queued(FOLDER) == (2, False)
    client = mlflow.MlflowClient(server.address)
    assert [item.path for item in client.list_artifacts(run_id)] == ["note.txt"]


def test_letters_of_a_process_that_is_under_way_are_left_to_it(server: Restartable, run_id: str) -> None:
    box = Outbox(new_queue(FOLDER, server.address, "Default", "f", run_id, None))
    assert send_queued(FOLDER) == (0, True)
    box.send("tags", {"note": "mine"})
    box.close()
    assert mlflow.MlflowClient(server.address).get_run(run_id).data.tags["note"] == "mine"


def test_a_store_without_a_server_is_written_at_once(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/direct.db"
    client = mlflow.MlflowClient(uri)
    run_id = client.create_run(client.create_experiment("one", (tmp_path / "artifacts").as_uri())).info.run_id
    DirectSink(client, run_id).send("tags", {"note": "now"})
    assert client.get_run(run_id).data.tags["note"] == "now"
