"""`python -m beans_exp.status`: jobs and trials by state, read from the store and the study only."""

import json
import socket
from pathlib import Path

import optuna
import pytest

from beans_exp.processes import this_process
from beans_exp.schema import TrackingConfig
from beans_exp.status import main
from beans_exp.tracking import tags
from beans_exp.tracking.parent_run import ParentRun, open_parent
from beans_exp.tracking.store import open_store, store_uri

FAR = "far-host/boot/1/2/3"


@pytest.fixture
def parent() -> ParentRun:
    """A running sweep: one job finished, one pruned, one running on another host, one dead on this host."""
    uri = store_uri(TrackingConfig())
    opened = open_parent(uri, "beans_exp", open_store(uri, "beans_exp"), "5" * 16, "-m reg=l1,l2", Path())
    _child(opened, "finished", "FINISHED", FAR, 3)
    _child(opened, "pruned", "KILLED", FAR, 1)
    _child(opened, "", "", FAR, 2)
    _child(opened, "", "", f"{this_process().rsplit('/', 2)[0]}/1/2.00", 1)
    return opened


def _child(parent: ParentRun, status: str, ended: str, process: str, epochs: int) -> None:
    known = {tags.SWEEP: parent.sweep_id, tags.PROCESS: process, tags.PARENT_RUN: parent.run_id}
    known |= {tags.STATUS: status} if status else {}
    assert parent.experiment_id is not None
    run_id = parent.client.create_run(parent.experiment_id, tags=known, run_name=f"job-{status or 'open'}").info.run_id
    params = {"trainer.epochs": 4, "finetune.blocks": 2, "finetune.epochs": 2, "objective.name": "val/accuracy"}
    for key, value in params.items():
        parent.client.log_param(run_id, key, value)
    for step in range(1, epochs + 1):
        for name, value in {"train/loss": 1, "val/accuracy": step / 10, "stage": 1, "time/epoch_seconds": 90}.items():
            parent.client.log_metric(run_id, name, value, step=step)
    if ended:
        parent.client.set_terminated(run_id, ended)


def test_jobs_are_shown_by_their_state(parent: ParentRun, capsys: pytest.CaptureFixture[str]) -> None:
    parent.set_tag(tags.JOBS, "6")
    main(["--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["counts"] == {"finished": 1, "pruned": 1, "running": 1, "died": 1, "remaining": 2}
    (running,) = (job for job in found["jobs"] if job["state"] == "running")
    assert running["host"] == "far-host" and running["stage"] == 1 and running["objective"] == {"val/accuracy": 0.2}
    assert (running["epoch"], running["epochs"], running["seconds_left"]) == (2, 6, 360)
    main([])
    shown = capsys.readouterr().out
    assert "2 remaining" in shown and "2/6" in shown and "6 min 00 s" in shown and "val/accuracy 0.2000" in shown


@pytest.mark.parametrize("file", ["mlruns/optuna.db", "elsewhere.db"])
def test_trials_are_shown_from_the_study(file: str, parent: ParentRun, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"sqlite:///{Path(file).resolve()}"
    study = optuna.create_study(storage=url, study_name="search")
    study.tell(study.ask(), 0.5)
    study.tell(study.ask(), state=optuna.trial.TrialState.PRUNED)
    study.ask()
    parent.set_tag(tags.STUDY, json.dumps({"storage": url, "name": "search", "wanted": 12}))
    main([] if file.startswith("mlruns") else ["--storage", url])
    shown = capsys.readouterr().out
    assert "study search, 12 trials planned: 1 complete, 1 pruned, 1 running" in shown and "pruned: 1" in shown


def test_an_unreadable_study_still_shows_the_jobs(parent: ParentRun, capsys: pytest.CaptureFixture[str]) -> None:
    parent.set_tag(tags.STUDY, json.dumps({"storage": "", "name": "search", "wanted": 12}))
    main([])
    shown = capsys.readouterr().out
    assert "no trials are shown: " in shown and "--storage" in shown and "1 finished" in shown


def test_no_address_that_a_tag_names_is_opened(
    parent: ParentRun, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anyone who may write to a shared store sets its tags: libpq would send them `PGPASSWORD`."""
    monkeypatch.setenv("PGPASSWORD", "hush-4711")
    victim = Path("victim.db").resolve()
    victim.touch()
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        stranger.settimeout(1)
        for address in (f"postgresql://me@127.0.0.1:{stranger.getsockname()[1]}/db", f"sqlite:///{victim}"):
            parent.set_tag(tags.STUDY, json.dumps({"storage": address, "name": "search", "wanted": 12}))
            main([])
            assert "no trials are shown: " in capsys.readouterr().out
        with pytest.raises(TimeoutError):
            stranger.accept()
    assert victim.read_bytes() == b""


@pytest.mark.parametrize("tag", ["gibberish", "[1]", '{"name": "x"}', '{"name": "x", "wanted": "many"}'])
def test_a_tag_that_describes_no_study_is_ignored(
    tag: str, parent: ParentRun, capsys: pytest.CaptureFixture[str]
) -> None:
    parent.set_tag(tags.STUDY, tag)
    parent.set_tag(tags.JOBS, "many")
    main([])
    assert "1 finished" in capsys.readouterr().out


def test_watching_stops_when_the_sweep_died(parent: ParentRun, capsys: pytest.CaptureFixture[str]) -> None:
    dead = f"{this_process().rsplit('/', 2)[0]}/1/2.00"
    parent.set_tag(tags.PROCESS, dead)
    main(["--watch", "60", "--json"])
    assert json.loads(capsys.readouterr().out)["state"] == "died"


def test_watching_stops_when_the_sweep_ended(parent: ParentRun, capsys: pytest.CaptureFixture[str]) -> None:
    parent.close([])
    main(["--watch", "60", "--json"])
    assert json.loads(capsys.readouterr().out)["state"] == "finished"


@pytest.mark.parametrize(
    ("words", "message"),
    [(["other"], "has no experiment other"), (["--sweep", "nonsense"], "nonsense is no sweep")],
)
def test_an_unknown_experiment_or_sweep_is_one_message(
    words: list[str], message: str, parent: ParentRun, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(words)
    assert message in capsys.readouterr().err


def test_an_experiment_without_sweeps_is_one_message(capsys: pytest.CaptureFixture[str]) -> None:
    open_store(store_uri(TrackingConfig()), "beans_exp")
    with pytest.raises(SystemExit):
        main([])
    assert "has no sweep" in capsys.readouterr().err
