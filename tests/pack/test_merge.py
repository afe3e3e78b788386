"""Files of several machines unpacked into one store, later files that hold more, and interrupted commands."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from beans_exp.schema import Config
from beans_exp.tracking.parallel import FEW
from beans_exp.tracking.reader import open_reader
from beans_exp.tracking.reuse import reusable_metrics
from beans_exp.unpack.runs import UnpackJob, write_run
from tests.pack.stores import EXPERIMENT, Logged, Store, log_sweep

SWEEP = "0123456789abcdef"
OVERRIDES = ["data.data_dir=/home/b.student/my data", "model.weights='/mnt/w/base.h5'", "seed=1"]


Stores = Callable[[str], Store]


def test_two_machines_finish_one_sweep(store: Stores, other: Store) -> None:
    log_sweep(store("a"), SWEEP, [Logged("one"), Logged("two", "failed")], "failed")
    log_sweep(store("b"), SWEEP, [Logged("one", "killed"), Logged("two")], "killed")
    for name in ("a", "b"):
        other.unpack(store(name).pack())
    (parent,) = other.parents
    assert (parent.info.status, parent.data.tags["beans.status"]) == ("FINISHED", "finished")
    rows = {row["fingerprint"]: row for row in other.jobs(parent)}
    assert {mark: row["status"] for mark, row in rows.items()} == {"one": "finished", "two": "finished"}
    finished = {run.data.tags["beans.fingerprint"]: run for run in other.children if run.info.status == "FINISHED"}
    assert {mark: row["run_id"] for mark, row in rows.items()} == {m: run.info.run_id for m, run in finished.items()}
    assert {run.data.tags["mlflow.parentRunId"] for run in other.children} == {parent.info.run_id}
    before = [run.to_dictionary() for run in other.runs]
    for name in ("a", "b"):
        other.unpack(store(name).folder / "runs.zip")
    assert [run.to_dictionary() for run in other.runs] == before


def test_a_sweep_that_was_trained_here_gets_the_other_machines_runs(store: Stores) -> None:
    here = store("here")
    parent, _ = log_sweep(here, SWEEP, [Logged("one"), Logged("two", "failed")], "failed")
    log_sweep(store("there"), SWEEP, [Logged("two"), Logged("three")])
    here.unpack(store("there").pack())
    assert [run.info.run_id for run in here.parents] == [parent]
    rows = here.jobs(here.parents[0])
    assert [(row["fingerprint"], row["status"]) for row in rows] == [(m, "finished") for m in ("one", "two", "three")]
    reader = open_reader(here.uri, EXPERIMENT)
    records = {record.run_id: record for record in reader.records(sweep=reader.sweep(SWEEP))}
    assert {row["run_id"] for row in rows} <= set(records)
    assert here.parents[0].info.status == "FINISHED"


def test_a_running_sweep_is_left_alone_but_for_its_new_children(store: Stores) -> None:
    here = store("here")
    parent, _ = log_sweep(here, SWEEP, [Logged("one")])
    here.client.update_run(parent, status="RUNNING")
    log_sweep(store("there"), SWEEP, [Logged("two")])
    here.unpack(store("there").pack())
    assert [row["fingerprint"] for row in here.jobs(here.parents[0])] == ["one"]
    assert here.parents[0].info.status == "RUNNING"
    assert {run.data.tags["mlflow.parentRunId"] for run in here.children} == {parent}


def test_an_interrupted_command_is_finished_by_the_same_one(
    store: Stores, other: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_sweep(store("a"), SWEEP, [Logged("one"), Logged("two"), Logged("three")])
    file = store("a").pack()
    written: list[UnpackJob] = []

    def interrupted(job: UnpackJob) -> None:
        if len(written) == 1:
            raise KeyboardInterrupt
        written.append(job)
        write_run(job)

    with monkeypatch.context() as patch:
        patch.setattr("beans_exp.unpack.build.write_run", interrupted)
        with pytest.raises(SystemExit) as ended:
            other.unpack(file)
    assert ended.value.code == 130
    marked = [run for run in other.children if "beans.fingerprint" in run.data.tags]
    assert len(marked) == 1 and len(other.children) == 3, "a run that is not complete can not be reused"
    other.unpack(file)
    assert {run.info.status for run in other.runs} == {"FINISHED"}
    assert len(other.runs) == 4
    assert other.pack().read_bytes() == file.read_bytes()


def test_many_runs_are_packed_and_unpacked_by_several_processes(store: Stores, other: Store) -> None:
    log_sweep(store("a"), SWEEP, [Logged(f"run{number}", epochs=1) for number in range(FEW + 1)])
    other.unpack(store("a").pack())
    assert len(other.children) == FEW + 1 and all("curves.png" in other.artifacts(run) for run in other.children)
    assert other.pack().read_bytes() == (store("a").folder / "runs.zip").read_bytes()


def test_a_killed_run_gets_its_end_from_a_later_file(store: Stores, other: Store) -> None:
    there = store("there")
    cause = {"beans.cause": "killed by the kernel"}
    run_id = Logged("one", "killed", tested=False, epochs=1, tags=cause).write(there)
    there.client.log_text(run_id, "Traceback", "traceback.txt")
    other.unpack(there.pack("first.zip"))
    (copy,) = other.children
    assert copy.data.tags["beans.cause"] == "killed by the kernel" and "traceback.txt" in other.artifacts(copy)
    there.client.delete_tag(run_id, "beans.cause")
    there.client.set_tag(run_id, "beans.status", "finished")
    there.client.log_metric(run_id, "test/accuracy", 0.75)
    there.client.set_terminated(run_id, "FINISHED")
    Path(there.client.get_run(run_id).info.artifact_uri.removeprefix("file://"), "traceback.txt").unlink()
    other.unpack(there.pack("second.zip"))
    (after,) = other.children
    assert (after.info.run_id, after.info.status) == (copy.info.run_id, "FINISHED")
    assert after.data.metrics["test/accuracy"] == 0.75 and "beans.cause" not in after.data.tags
    assert "traceback.txt" not in other.artifacts(after)
    other.unpack(there.folder / "first.zip")
    assert other.children[0].info.status == "FINISHED", "an older file changes nothing"


def test_a_run_killed_here_and_finished_elsewhere_is_added(store: Stores) -> None:
    here, there = store("here"), store("there")
    run_id = Logged("one", "killed", epochs=0, tested=False).write(here)
    there.unpack(here.pack())
    (copy,) = there.children
    there.client.log_metric(copy.info.run_id, "test/accuracy", 0.75)
    there.client.set_tag(copy.info.run_id, "beans.status", "finished")
    there.client.set_terminated(copy.info.run_id, "FINISHED")
    back = there.pack()
    for _ in range(2):
        here.unpack(back)
        assert {run.info.run_id: run.info.status for run in here.children} == {
            run_id: "KILLED",
            here.copies[run_id].info.run_id: "FINISHED",
        }


def test_a_run_whose_sweep_comes_in_a_later_file_becomes_its_child(store: Stores, other: Store) -> None:
    there = store("there")
    _, (reused,) = log_sweep(there, "aaaaaaaaaaaaaaaa", [Logged("one")])
    _, (_,) = log_sweep(there, "bbbbbbbbbbbbbbbb", [Logged("two")])
    second = next(run for run in there.parents if run.data.tags["beans.sweep"] == "bbbbbbbbbbbbbbbb")
    there.client.log_text(
        second.info.run_id, f"fingerprint,run_id,status,origin\none,{reused},finished,reused\n", "jobs.csv"
    )
    other.unpack(there.pack("second.zip", "--sweep", "bbbbbbbbbbbbbbbb"))
    copy = other.copies[reused]
    assert "mlflow.parentRunId" not in copy.data.tags
    other.unpack(there.pack("first.zip", "--sweep", "aaaaaaaaaaaaaaaa"))
    first = next(run for run in other.parents if run.data.tags["beans.sweep"] == "aaaaaaaaaaaaaaaa")
    assert other.copies[reused].data.tags["mlflow.parentRunId"] == first.info.run_id


def test_heads_are_named_by_the_new_ids(store: Stores, other: Store) -> None:
    there = store("there")
    head = Logged("head").write(there)
    tuned = Logged("tuned", tags={"beans.head_run": head}).write(there)
    lost = Logged("lost", tags={"beans.head_run": "f" * 32}).write(there)
    other.unpack(there.pack())
    copies = other.copies
    assert copies[tuned].data.tags["beans.head_run"] == copies[head].info.run_id
    assert "beans.head_run" not in copies[lost].data.tags


def test_running_runs_are_left_out(store: Stores, other: Store, capsys: pytest.CaptureFixture[str]) -> None:
    there = store("there")
    parent, _ = log_sweep(there, SWEEP, [Logged("one"), Logged("two", "running")])
    there.client.update_run(parent, status="RUNNING")
    file = there.pack()
    assert "note: 1 run(s) that have not ended were left out" in capsys.readouterr().out
    other.unpack(file)
    assert [run.info.run_name for run in other.children] == ["one"]
    (copy,) = other.parents
    assert (copy.info.status, copy.data.tags["beans.status"]) == ("KILLED", "killed")
    statuses = {row["fingerprint"]: (row["status"], bool(row["run_id"])) for row in other.jobs(copy)}
    assert statuses == {"one": ("finished", True), "two": ("running", False)}


def test_an_experiment_without_ended_runs_is_one_message(store: Stores, capsys: pytest.CaptureFixture[str]) -> None:
    Logged("one", "running").write(store("there"))
    with pytest.raises(SystemExit):
        store("there").pack()
    assert "beans_exp: must be an experiment with a run that has ended" in capsys.readouterr().err
    assert not (store("there").folder / "runs.zip").exists()


@pytest.mark.parametrize(("reason", "reused"), [("not packed", True), ("deleted: not the best of its sweep", False)])
def test_a_run_whose_model_was_left_out_counts_as_finished(reason: str, reused: bool, store: Stores) -> None:
    there = store("there")
    run_id = Logged("one", tags={"beans.model": reason}).write(there)
    experiment = there.client.get_run(run_id).info.experiment_id
    assert (reusable_metrics(experiment, Config(), "one", quiet=True) is not None) == reused


def test_a_file_names_no_machine_even_if_its_store_does(store: Stores, other: Store, tmp_path: Path) -> None:
    there = store("there")
    tags = {
        "beans.process": "ab-host-7/boot/1/2",
        "mlflow.user": "b.student",
        "mlflow.source.name": "/home/b.student/x.py",
        "mlflow.note.content": "by b.student on ab-host-7, see /home/b.student/notes and http://ab-host-7:5000/x",
        "beans.cause": "FileNotFoundError: '/home/b.student/my data/1.jpg'",
        "team": "secret project",
    }
    run_id = Logged("one", "failed", tags=tags).write(there)
    notes = {
        "overrides.yaml": json.dumps(OVERRIDES),
        "traceback.txt": 'File "/home/b.student/beans/run.py", line 3, in run\n  ab-host-7\n',
        "notes/deep.txt": f"see {tmp_path}/there and C:\\Users\\b.student\\x.txt",
        "ab-host-7.txt": "named by the host",
    }
    for name, text in notes.items():
        there.client.log_text(run_id, text, name)
    (tmp_path / "photo.bin").write_bytes(b"\xff\xfe in /home ab-host-7")
    there.client.log_artifact(run_id, str(tmp_path / "photo.bin"))
    folder = Path(there.client.get_run(run_id).info.artifact_uri.removeprefix("file://"))
    (folder / "link").symlink_to("/etc/hostname")
    other.unpack(there.pack())
    (copy,) = other.children
    found = other.artifacts(copy)
    assert set(found) == {"overrides.yaml", "traceback.txt", "notes/deep.txt", "predictions.csv", "curves.png"}
    text = json.dumps(copy.to_dictionary()) + b"".join(found.values()).decode(errors="replace")
    for secret in ("ab-host-7", "b.student", "/home/", "/mnt/", "secret project", str(tmp_path / "there"), "5000"):
        assert secret not in text.replace(str(other.folder), ""), secret
    assert found["overrides.yaml"].decode() == "- data.data_dir=my data\n- model.weights=base.h5\n- seed=1\n"
    assert found["traceback.txt"].decode().startswith('File "run.py", line 3, in run')
    assert copy.data.tags["beans.cause"] == "FileNotFoundError: '1.jpg'"
