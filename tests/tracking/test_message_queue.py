"""Messages on disk: delivered once, in order, and by any later version."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import pytest

from beans_exp import sync
from beans_exp.data import source
from beans_exp.files import read_json
from beans_exp.fingerprint import fingerprint
from beans_exp.run import run
from beans_exp.schema import TrackingConfig
from beans_exp.tracking.message_queue import find_queue, find_queues, new_queue, queued_objective
from beans_exp.tracking.messages import Message, deliver
from beans_exp.tracking.outbox import DirectSink, send_queued
from beans_exp.tracking.store import open_store
from tests.tracking.contract import CONFIG, runs_of

FOLDER = Path("outputs/run")
POINTS = [["train/loss", 1.17, 1795817010122, 1], ["val/accuracy", 0.33, 1795817010122, 1]]


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/mlflow.db"


@pytest.fixture
def run_id(uri: str) -> str:
    experiment = open_store(uri, "queue")
    return str(mlflow.MlflowClient(uri).create_run(experiment).info.run_id)


def test_a_message_delivered_twice_has_no_further_effect(uri: str, run_id: str) -> None:
    client = mlflow.MlflowClient(uri)
    for _ in range(2):
        deliver(client, run_id, Message("metrics", {"points": [["loss", 0.5, 1, 1], ["loss", 0.25, 2, 2]]}))
        deliver(client, run_id, Message("params", {"seed": "3"}))
    assert [(one.step, one.value) for one in client.get_metric_history(run_id, "loss")] == [(1, 0.5), (2, 0.25)]


def test_messages_survive_their_writer(uri: str, run_id: str) -> None:
    queue = new_queue(FOLDER, uri, "queue", "f", run_id, None)
    queue.add("metrics", {"points": [["loss", 0.5, 1, 1]]})
    queue.add("file", {}, "note.txt", lambda path: path.write_text("hello"))
    (queue.folder / "000002").mkdir()  # its writer was killed
    (found,) = find_queues(FOLDER)
    assert found.logged == {("loss", 1)}
    assert send_queued(FOLDER) == (2, False)
    client = mlflow.MlflowClient(uri)
    assert [item.path for item in client.list_artifacts(run_id)] == ["note.txt"]


def test_a_direct_sink_delivers_at_once(uri: str, run_id: str) -> None:
    client = mlflow.MlflowClient(uri)
    DirectSink(client, run_id).send("tags", {"note": "now"})
    assert client.get_run(run_id).data.tags["note"] == "now"


def _queue_finished_run(uri: str, run_id: str) -> Path:
    """Queue a run that has ended well, and return the queue's folder."""
    queue = new_queue(FOLDER, uri, "queue", "f", run_id, None)
    for step in (1, 2):
        queue.add("metrics", {"points": [["loss", 1 / step, 1795817010122, step]]})
    queue.add("file", {}, "note.txt", lambda path: path.write_text("hello"))
    queue.add("tags", {"beans.status": "finished"})
    queue.add("end", {"status": "FINISHED", "time": 1795817012756, "objective": 0.5})
    return queue.folder


def _flip_a_bit(content: bytes) -> bytes:
    return bytes([content[0] ^ 4]) + content[1:]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "emptied": lambda content: b"",
    "cut": lambda content: content[:-1],
    "flipped": _flip_a_bit,
    "zeroed": lambda content: bytes(len(content)),
}
each_damage = pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)


@each_damage
@pytest.mark.parametrize("name", ["000000/message.json", "000002/message.json", "000002/note.txt"])
def test_a_damaged_message_is_set_aside_and_its_run_is_not_complete(
    name: str, damage: Callable[[bytes], bytes], uri: str, run_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = _queue_finished_run(uri, run_id) / name
    assert queued_objective(FOLDER, "f") == 0.5
    file.write_bytes(damage(file.read_bytes()))
    if name != "000002/note.txt":  # read when it is delivered
        assert queued_objective(FOLDER, "f") is None, "the same command completes it"
    assert send_queued(FOLDER) == (4, False)
    done = mlflow.MlflowClient(uri).get_run(run_id)
    assert (done.info.status, done.data.tags["beans.status"]) == ("KILLED", "killed")
    assert "damaged" in done.data.tags["beans.cause"] and done.data.metrics == {"loss": 0.5}
    assert send_queued(FOLDER) == (0, False)
    [line] = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert str(file.with_name("message.json")) in line and "Run the same command again" in line


@each_damage
def test_a_damaged_address_is_set_aside(
    damage: Callable[[bytes], bytes], uri: str, run_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = _queue_finished_run(uri, run_id) / "address.json"
    file.write_bytes(damage(file.read_bytes()))
    for _ in range(2):
        assert find_queue(FOLDER, "f", run_id) is None and queued_objective(FOLDER, "f") is None
        assert send_queued(FOLDER) == (0, False)
    assert len(caplog.records) == 1 and str(file) in caplog.text
    _queue_finished_run(uri, run_id)
    assert send_queued(FOLDER) == (5, False)
    assert mlflow.MlflowClient(uri).get_run(run_id).info.status == "FINISHED"


def test_messages_of_the_version_without_checksums_are_sent(uri: str, run_id: str) -> None:
    folder = _queue_finished_run(uri, run_id)
    for file in [folder / "address.json", *folder.glob("*/message.json")]:
        content = read_json(file)
        content.pop("files", None)
        file.write_text(json.dumps(content))
    assert send_queued(FOLDER) == (5, False)
    assert mlflow.MlflowClient(uri).get_run(run_id).info.status == "FINISHED"


def _write_old_queue(uri: str, experiment: str, mark: str) -> None:
    """Write a queue in the format of earlier versions, which called the file of a message `letter.json`."""
    queue = FOLDER / "outbox" / "2e42a02c"
    tags = {
        "mlflow.user": "root",
        "mlflow.source.type": "LOCAL",
        "beans.fingerprint": mark,
        "beans.precision": "float32",
        "beans.process": "vm/71163cf9-adf5-479c-9ad5-33f61e3d4510/4026531836/4242/1795816989.42",
        "beans.threads": "2",
        "beans.version.mlflow": "3.17.2",
    }
    address = {
        "uri": uri,
        "experiment": experiment,
        "fingerprint": mark,
        "run_id": None,
        "id": "2e42a02c78094062bd6fc81ccf500012",
        "new": {"name": "lenet-l2-seed3", "tags": tags, "started": 1795817006171},
    }
    dataset = {
        "name": "synthetic",
        "digest": "b83289a550920f4c",
        "source_type": "code",
        "source": '{"tags": {"data": "synthetic", "version": "1"}}',
        "schema": None,
        "profile": None,
    }
    messages: list[tuple[str, dict[str, Any], str]] = [
        ("params", {"model.name": "lenet", "reg.l2": "0.01", "seed": "3"}, ""),
        ("data", dataset, ""),
        ("file", {}, "config.yaml"),
        ("metrics", {"points": POINTS}, ""),
        ("tags", {"beans.status": "finished"}, ""),
        ("end", {"status": "FINISHED", "time": 1795817012756, "objective": 0.33}, ""),
    ]
    for number, (kind, content, name) in enumerate(messages):
        slot = queue / f"{number:06d}"
        slot.mkdir(parents=True)
        if name:
            (slot / name).write_text("seed: 3\n")
        (slot / "letter.json").write_text(json.dumps({"kind": kind, "content": content, "name": name}))
    (queue / "000006").mkdir()  # its writer was killed
    (queue / "000006" / "letter.unfinished").write_text('{"kind"')
    (queue / "address.json").write_text(json.dumps(address))
    (queue / ".lock").touch()


def _require_old_run(uri: str, experiment: str) -> None:
    client = mlflow.MlflowClient(uri)
    (done,) = runs_of(client, experiment)
    assert (done.info.status, done.info.run_name) == ("FINISHED", "lenet-l2-seed3")
    assert (done.info.start_time, done.info.end_time) == (1795817006171, 1795817012756)
    assert done.data.tags["beans.status"] == "finished" and done.data.params["reg.l2"] == "0.01"
    assert done.data.metrics == {"train/loss": 1.17, "val/accuracy": 0.33}
    assert [item.path for item in client.list_artifacts(done.info.run_id)] == ["config.yaml"]
    assert done.inputs.dataset_inputs[0].dataset.digest == "b83289a550920f4c"
    assert not (FOLDER / "outbox").exists()


def test_sync_sends_a_queue_of_an_earlier_version(uri: str, capsys: pytest.CaptureFixture[str]) -> None:
    _write_old_queue(uri, "old", "50332bc21d0c0283")
    sync.main([])
    assert capsys.readouterr().out == f"{FOLDER}: sent 6 updates\n"
    _require_old_run(uri, "old")


def test_a_half_sent_queue_of_an_earlier_version_is_continued(uri: str) -> None:
    _write_old_queue(uri, "old", "50332bc21d0c0283")
    (queue,) = find_queues(FOLDER)
    assert queue.deliver_next() and queue.deliver_next()
    assert len(queue.pending) == 4
    assert send_queued(FOLDER) == (4, False)
    _require_old_run(uri, "old")


def test_the_next_run_sends_a_queue_of_an_earlier_version(uri: str) -> None:
    config = replace(CONFIG, tracking=TrackingConfig(uri=uri, experiment="old", save_model="none"))
    config = replace(config, trainer=replace(config.trainer, test=False))
    _write_old_queue(uri, "old", fingerprint(config, source(config.data)))
    assert run(config, [], FOLDER) == 0.33, "the run that was sent is reused"
    _require_old_run(uri, "old")


def test_a_queue_of_an_earlier_version_is_resumed_offline(uri: str) -> None:
    _write_old_queue(uri, "old", "50332bc21d0c0283")
    queue = find_queue(FOLDER, "50332bc21d0c0283", "2e42a02c78094062bd6fc81ccf500012")
    assert queue is not None and queue.logged == {("train/loss", 1), ("val/accuracy", 1)}
    assert queue.last_content("params") is not None
    queue.add("tags", {"note": "appended"})
    assert len(queue.pending) == 7
    assert send_queued(FOLDER) == (7, False)
    (done,) = runs_of(mlflow.MlflowClient(uri), "old")
    assert done.data.tags["note"] == "appended"
