"""Killed runs and sweeps finish when the same command runs again, with each run and each epoch logged once."""

import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import mlflow
import psutil
import pytest
from mlflow.entities import Run

from beans_exp.launcher.processes import job_processes
from tests.conftest import TINY, Program, Started
from tests.forked import Forked

LONG = [*TINY, "trainer.epochs=150", "trainer.batch_size=6", "trainer.deterministic=true", "tracking.save_model=none"]
"""A few seconds of training, with several checkpoints."""


def _client() -> mlflow.MlflowClient:
    return mlflow.MlflowClient(f"sqlite:///{Path('mlruns/mlflow.db').resolve()}")


def _runs() -> list[Run]:
    experiment = _client().get_experiment_by_name("beans_exp")
    assert experiment is not None
    return list(_client().search_runs([experiment.experiment_id]))


def _require_whole_curve(run: Run, epochs: int) -> None:
    for name in ("train/loss", "val/accuracy", "stage"):
        steps = [point.step for point in _client().get_metric_history(run.info.run_id, name)]
        assert sorted(steps) == list(range(1, epochs + 1))
    assert len(_client().get_metric_history(run.info.run_id, "test/accuracy")) == 1


@pytest.fixture
def temporary_files(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of the processes' temporary files; its path is short enough for sockets."""
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setenv("TMPDIR", folder)
        yield Path(folder)


@pytest.mark.parametrize(("how", "status"), [(signal.SIGKILL, "RUNNING"), (signal.SIGTERM, "KILLED")])
def test_a_killed_run_is_resumed_under_its_own_id(
    how: signal.Signals, status: str, started: Started, program: Program
) -> None:
    process = started(*LONG, until="Epoch 60/")
    process.send_signal(how)
    process.wait()
    (left,) = _runs()
    assert left.info.status == status
    assert ("beans.cause" in left.data.tags) == (how is signal.SIGTERM)
    (checkpoint,) = Path("outputs").rglob("checkpoint.npz")
    again = program(*LONG)
    assert again.returncode == 0, again.stderr
    assert f"resuming killed run {left.info.run_id} after epoch" in again.stdout
    assert "Epoch 1/" not in again.stdout
    (done,) = _runs()
    assert (done.info.run_id, done.info.status) == (left.info.run_id, "FINISHED")
    _require_whole_curve(done, 150)
    assert not checkpoint.exists()
    assert "beans.cause" not in done.data.tags, "it finished"
    assert "traceback.txt" not in {item.path for item in _client().list_artifacts(done.info.run_id)}


def test_a_killed_sweep_is_finished_by_the_same_command(
    started: Started, program: Program, temporary_files: Path
) -> None:
    words = ["-m", *LONG, "seed=0,1", "hydra.launcher.retries=0"]
    process = started(*words, until="Epoch 40/")
    _kill_the_worker(process)
    while Path("log").read_text().count("Epoch 40/") < 2:  # the other job continues
        assert process.poll() is None, Path("log").read_text()
        time.sleep(0.1)
    workers = _workers(process)
    process.kill()
    process.wait()
    _require_end(workers)
    assert list(temporary_files.iterdir()) != []
    _require_finished(program, words)
    assert list(temporary_files.iterdir()) == []


@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_hydras_launchers_resume_a_sweep_whose_processes_were_all_killed(
    launcher: str, started: Started, program: Program
) -> None:
    words = ["-m", *LONG, "seed=0,1", f"hydra/launcher={launcher}"]
    process = started(*words, until="Epoch 60/")
    every = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    for one in every:
        one.kill()
    process.wait()
    _require_end(every)
    _require_finished(program, words)


def _require_finished(program: Program, words: list[str]) -> None:
    """The same command ends with a parent run and two complete jobs."""
    again = program(*words)
    assert again.returncode == 0, again.stdout + again.stderr
    runs = _runs()
    assert sorted(run.data.tags.get("beans.role", "job") for run in runs) == ["job", "job", "sweep"]
    assert {run.info.status for run in runs} == {"FINISHED"}
    for run in runs:
        if "beans.role" not in run.data.tags:
            _require_whole_curve(run, 150)


def _workers(process: Forked) -> list[psutil.Process]:
    return job_processes(psutil.Process(process.pid))


def _kill_the_worker(process: Forked) -> None:
    (worker,) = _workers(process)
    worker.kill()


def _require_end(workers: list[psutil.Process]) -> None:
    """Workers end with their parent process."""
    for _ in range(300):
        if not any(worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE for worker in workers):
            return
        time.sleep(0.1)
    raise AssertionError("a worker outlives its parent process")


def test_the_next_sweep_closes_runs_of_dead_processes(started: Started, program: Program) -> None:
    process = started(*LONG, until="Epoch 2/")
    process.kill()
    process.wait()
    ended = program("-m", *TINY, "trainer.epochs=1", "seed=7,8", "tracking.save_model=none")
    assert ended.returncode == 0
    (left,) = (run for run in _runs() if run.info.status != "FINISHED")
    assert (left.info.status, left.data.tags["beans.status"]) == ("KILLED", "killed")
    assert left.data.tags["beans.cause"] == "process died without reporting an error"


def test_an_untested_finished_run_is_tested_from_its_saved_model(program: Program) -> None:
    words = [*TINY, "trainer.epochs=1"]
    assert program(*words, "trainer.test=false").returncode == 0
    again = program(*words)
    assert again.returncode == 0, again.stderr
    assert "tested the finished run" in again.stdout and "Epoch" not in again.stdout
    (run,) = _runs()
    assert "test/accuracy" in run.data.metrics
    names = {item.path for item in _client().list_artifacts(run.info.run_id)}
    assert {"predictions.csv", "confusion_matrix.png"} <= names


def test_a_plan_shows_reused_jobs_and_the_duration_of_the_others(program: Program) -> None:
    words = ["-m", *TINY, "trainer.epochs=1", "tracking.save_model=none"]
    nothing = program(*words, "seed=0,1", "plan=true")
    assert nothing.returncode == 0 and not Path("mlruns").exists()
    assert "2 jobs of unknown duration" in nothing.stdout
    assert program(*words, "seed=0,1").returncode == 0
    some = program(*words, "seed=0,1,2", "plan=true")
    lines = {word: line for line in some.stdout.splitlines() for word in ("seed=0", "seed=2") if word in line}
    assert "reuse" in lines["seed=0"] and "train" in lines["seed=2"] and "unknown" not in lines["seed=2"]
    assert "in sequence: " in some.stdout
