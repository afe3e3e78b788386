"""Runs whose server is unreachable for a while: everything they log arrives, and arrives once."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.entities import Run

from beans_exp import sync
from beans_exp.errors import ServerUnreachableError, StoreError
from beans_exp.run import run
from beans_exp.schema import Config, SweepConfig, TrackingConfig
from beans_exp.tracking import outbox
from beans_exp.tracking.best_model import has_model
from beans_exp.tracking.message_queue import new_queue
from beans_exp.tracking.outbox import Outbox, count_queued, send_all_queued, send_queued
from beans_exp.tracking.parent_run import open_parent
from beans_exp.tracking.patience import patiently
from beans_exp.tracking.registry import model_of_run
from beans_exp.tracking.resume import end_run
from beans_exp.tracking.store import open_store
from beans_exp.tracking.tracker import Tracker
from beans_exp.training.history import Epoch
from tests.proxy import LOST, FaultyProxy, faulty_proxy
from tests.servers import Restartable, mlflow_server
from tests.tracking.contract import ARTIFACTS, CONFIG, METRICS

pytestmark = pytest.mark.xdist_group("outbox")  # one server for all
FOLDER = Path("outputs/run")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Restartable]:
    """An MLflow server that can be stopped and started again at the same address."""
    with mlflow_server(tmp_path_factory.mktemp("server")) as started:
        yield started


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "RETRY_SECONDS", 0.1)


@pytest.fixture
def run_id(server: Restartable) -> str:
    return str(mlflow.MlflowClient(server.address).create_run("0").info.run_id)


def _config(server: Restartable, experiment: str, *, offline: bool = False, patience: float = 0.5) -> Config:
    uri = server.address
    tracking = TrackingConfig(name="server", uri=uri, experiment=experiment, offline=offline, patience=patience)
    return replace(CONFIG, tracking=tracking)


def _require_complete(server: Restartable, experiment: str) -> Run:
    """The experiment has one run, with everything that a run logs and each epoch once."""
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
    """Call `events[step]` after the epoch `step`."""
    add_epoch = Tracker.add_epoch

    def add_and_flush(self: Tracker, epoch: Epoch) -> None:
        add_epoch(self, epoch)
        self.flush()
        events.get(epoch.step, lambda: None)()

    monkeypatch.setattr(Tracker, "add_epoch", add_and_flush)


def test_sync_completes_a_run_whose_server_became_unreachable(
    server: Restartable,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    _at_epoch(monkeypatch, {1: server.stop})
    with caplog.at_level(logging.WARNING):
        value = run(_config(server, "stopped"), ["seed=3"], FOLDER)
    assert isinstance(value, float)
    assert "is unreachable (" in caplog.text and "metrics are saved locally" in caplog.text
    assert "python -m beans_exp.sync" in caplog.text
    with pytest.raises(SystemExit):
        sync.main([])
    server.start()
    sync.main(["outputs"])
    assert f"{FOLDER}: sent " in capsys.readouterr().out
    _require_complete(server, "stopped")
    assert not (FOLDER / "outbox").exists()
    sync.main([])
    assert capsys.readouterr().out == "nothing to send\n"


def test_messages_are_sent_when_the_server_is_reachable_again(
    server: Restartable, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _at_epoch(monkeypatch, {1: server.stop, 2: server.start})
    run(_config(server, "back", patience=120.0), [], FOLDER)
    assert "is reachable again" in caplog.text
    _require_complete(server, "back")


def test_an_unreachable_server_is_an_error_unless_offline(
    server: Restartable, caplog: pytest.LogCaptureFixture
) -> None:
    server.stop()
    try:
        with pytest.raises(ServerUnreachableError, match=r"tracking\.offline=true"):
            run(_config(server, "offline"), [], FOLDER)
        with caplog.at_level(logging.INFO):
            offline = _config(server, "offline", offline=True)
            value = run(offline, [], FOLDER)
            epochs = caplog.text.count("epoch")
            assert caplog.text.count("is unreachable") == 1
            assert run(offline, [], FOLDER) == value  # reused from its queue
            assert caplog.text.count("epoch") == epochs
    finally:
        server.start()
    assert run(_config(server, "offline"), [], FOLDER) == value  # sent, then reused
    _require_complete(server, "offline")


def test_a_run_without_its_parent_run_creates_it_for_the_sweep(server: Restartable) -> None:
    server.stop()
    child = replace(_config(server, "family"), sweep=SweepConfig(id="5" * 16))
    run(child, [], FOLDER)
    server.start()
    assert send_queued(FOLDER)[0] > 5
    tags = _require_complete(server, "family").data.tags
    parent = mlflow.MlflowClient(server.address).get_run(tags["mlflow.parentRunId"])
    assert parent.data.tags["beans.sweep"] == "5" * 16 and parent.data.tags["beans.role"] == "sweep"


def test_a_rejected_message_does_not_hold_up_the_next_ones(
    server: Restartable, run_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    queue = new_queue(FOLDER, server.address, "Default", "f", run_id, None)
    box = Outbox(queue)
    box.send("params", {"seed": "3"})
    box.send("params", {"seed": "4"})  # a parameter cannot change
    box.send("tags", {"note": "after"})
    box.close()
    assert mlflow.MlflowClient(server.address).get_run(run_id).data.tags["note"] == "after"
    assert "rejects an update" in caplog.text and len(queue.rejected) == 1


def test_messages_of_a_running_process_are_left_to_it(server: Restartable, run_id: str) -> None:
    box = Outbox(new_queue(FOLDER, server.address, "Default", "f", run_id, None))
    assert send_queued(FOLDER) == (0, True)
    box.send("tags", {"note": "mine"})
    box.close()
    assert mlflow.MlflowClient(server.address).get_run(run_id).data.tags["note"] == "mine"


@pytest.fixture(scope="module")
def through(server: Restartable) -> Iterator[FaultyProxy]:
    """A proxy in front of the server."""
    with faulty_proxy(server.address) as proxy:
        yield proxy


@pytest.fixture
def proxy(through: FaultyProxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    monkeypatch.setattr("beans_exp.tracking.patience.RETRY_SECONDS", 0.1)
    yield through
    through.fault, through.delay = lambda path: None, 0.0


def _jobs(server: Restartable, experiment: str) -> list[Run]:
    client = mlflow.MlflowClient(server.address)
    found = client.get_experiment_by_name(experiment)
    return list(client.search_runs([found.experiment_id])) if found else []


def _through(proxy: FaultyProxy, experiment: str, **changes: Any) -> Config:
    tracking = TrackingConfig(name="server", uri=proxy.address, experiment=experiment, patience=0.5)
    return replace(CONFIG, tracking=replace(tracking, **changes))


@pytest.mark.parametrize("status", [502, 429, 404])
def test_error_pages_of_a_proxy_mean_unreachable_for_now(
    status: int, server: Restartable, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        proxy.fault = lambda path: status

    _at_epoch(monkeypatch, {1: fail})
    run(_through(proxy, f"page {status}"), [], FOLDER)
    proxy.fault = lambda path: None
    assert send_queued(FOLDER)[0] > 5
    _require_complete(server, f"page {status}")


@pytest.mark.parametrize("status", [502, 404])
def test_a_job_of_a_sweep_starts_although_a_proxy_answers(status: int, server: Restartable, proxy: FaultyProxy) -> None:
    proxy.fault = lambda path: status
    single = _through(proxy, f"job {status}")
    with pytest.raises(StoreError, match=f"answers {status} .* is it an MLflow server"):
        run(single, [], FOLDER)
    run(replace(single, sweep=SweepConfig(id="6" * 16)), [], FOLDER)
    proxy.fault = lambda path: None
    assert send_queued(FOLDER)[0] > 5
    _require_complete(server, f"job {status}")


def test_a_run_whose_creation_is_not_answered_is_created_once(server: Restartable, proxy: FaultyProxy) -> None:
    run(_through(proxy, "once"), [], FOLDER)  # creates the experiment
    proxy.lose_once("runs/create")
    other = replace(_through(proxy, "once", patience=30.0), seed=4)
    run(other, [], FOLDER)
    assert len(_jobs(server, "once")) == 2


def test_a_run_created_before_its_server_became_unreachable_is_found_again(
    server: Restartable, proxy: FaultyProxy
) -> None:
    created: list[str] = []

    def fail(path: str) -> int | None:
        created.extend([path] if path.endswith("runs/create") else [])
        return LOST if path.endswith("runs/create") else 502 if created else None

    proxy.fault = fail
    run(_through(proxy, "found"), [], FOLDER)
    proxy.fault = lambda path: None
    send_queued(FOLDER)
    _require_complete(server, "found")


def test_a_parent_run_whose_creation_is_not_answered_is_created_once(server: Restartable, proxy: FaultyProxy) -> None:
    experiment_id = open_store(proxy.address, "parents")
    proxy.lose_once("runs/create")
    parts = (proxy.address, "parents", experiment_id, "sweep", "name", FOLDER, 0.5)
    parent = patiently(proxy.address, 30.0, lambda: open_parent(*parts))
    proxy.fault = lambda path: 502 if "runs" in path else None
    assert [one.status for one in parent.outcomes(["a", "b"], [True, False])] == ["finished", "failed"]
    assert parent.reusable_metrics(CONFIG, "a") is None
    proxy.fault = lambda path: None
    parent.close([])
    assert [one.info.status for one in _jobs(server, "parents")] == ["FINISHED"]


def test_closing_an_outbox_has_a_bound(run_id: str, proxy: FaultyProxy, caplog: pytest.LogCaptureFixture) -> None:
    box = Outbox(new_queue(FOLDER, proxy.address, "Default", "f", run_id, None), patience=0.2)
    proxy.delay = 0.5
    for number in range(20):
        box.send("tags", {"note": str(number)})
    box.close()
    assert "for 0.2 seconds at most (tracking.patience)" in caplog.text
    assert "python -m beans_exp.sync" in caplog.text and count_queued(FOLDER) > 10
    proxy.delay = 0.0
    box.thread.join()
    assert send_all_queued(FOLDER) == 0


def test_a_finished_run_keeps_no_cause_of_an_earlier_process(server: Restartable, run_id: str) -> None:
    client = mlflow.MlflowClient(server.address)
    end_run(client, run_id, "process died without reporting an error")
    box = Outbox(new_queue(FOLDER, server.address, "Default", "f", run_id, None))
    box.send("end", {"status": "FINISHED", "time": 1})
    box.close()
    done = client.get_run(run_id)
    assert done.info.status == "FINISHED" and "beans.cause" not in done.data.tags


def test_a_killed_run_without_a_queue_is_resumed_offline(server: Restartable, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("beans_exp.training.checkpoint.LONGEST", 0.0)
    with monkeypatch.context() as patch:
        _at_epoch(patch, {2: interrupt})
        with pytest.raises(KeyboardInterrupt):
            run(_config(server, "away", patience=30.0), [], FOLDER)
    assert not (FOLDER / "outbox").exists(), "everything was sent"
    server.stop()
    try:
        run(_config(server, "away", offline=True), [], FOLDER)
    finally:
        server.start()
    send_queued(FOLDER)
    _require_complete(server, "away")
