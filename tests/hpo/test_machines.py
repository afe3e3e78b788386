"""One search on several machines, of which one is killed: every trial is run once, and nothing is left open.

Each machine is the same command in its own folder, with its own caches; study and runs are on one Postgres.
"""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
import optuna
from optuna.trial import FrozenTrial, TrialState

from beans_exp.hpo.trial_attrs import FINGERPRINT, OWNER, counted
from tests.conftest import TINY
from tests.servers import mlflow_server, postgres

TRIALS = 3
SEARCH = [
    *["-m", "hydra/sweeper=optuna", *TINY, "trainer.epochs=1", "trainer.batch_size=6", "confirm.top=0"],
    *["hydra/sweeper/sampler=random", "reg.l2=tag(log,interval(1e-5,1e-1))", "tracking.save_model=none"],
    f"hydra.sweeper.n_trials={TRIALS}",
]


def test_a_search_survives_the_loss_of_one_of_its_machines(tmp_path: Path) -> None:
    with postgres() as database, mlflow_server(tmp_path, f"{database}/mlflow") as server:
        storage = f"{database}/optuna"
        words = [*SEARCH, f"hydra.sweeper.storage={storage}", "tracking=server", f"tracking.uri={server.address}"]
        with _machine(tmp_path / "lost", words) as lost, _machine(tmp_path / "surviving", words) as surviving:
            _wait_for_a_job_of(lost, storage)
            os.killpg(lost.pid, signal.SIGKILL)
            assert surviving.wait(300) == 0, (tmp_path / "surviving" / "log").read_text()
        assert [trial.state for trial in counted(_trials(storage))] == [TrialState.COMPLETE] * TRIALS
        _require_every_run_once(server.address)


@contextmanager
def _machine(folder: Path, words: list[str]) -> "Iterator[subprocess.Popen[bytes]]":
    folder.mkdir()
    variables = os.environ | {"XDG_CACHE_HOME": str(folder / "cache")}
    command = [sys.executable, "-m", "beans_exp", *words]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=variables, stdout=log, stderr=log, start_new_session=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _wait_for_a_job_of(process: "subprocess.Popen[bytes]", storage: str) -> None:
    """Wait until `process` has started a trial."""
    for _ in range(600):
        started = [trial for trial in _trials(storage) if FINGERPRINT in trial.user_attrs]
        if any(trial.user_attrs[OWNER].split("/")[-2] == str(process.pid) for trial in started):
            return
        assert process.poll() is None
        time.sleep(0.2)
    raise TimeoutError


def _trials(storage: str) -> list[FrozenTrial]:
    """The trials of the search; none before it is created."""
    try:
        names = [name for name in optuna.get_all_study_names(storage) if not name.endswith(".confirmation")]
        return optuna.load_study(study_name=names[0], storage=storage).trials if names else []
    except optuna.exceptions.StorageInternalError:  # a machine is creating the tables
        return []


def _require_every_run_once(server: str) -> None:
    client = mlflow.MlflowClient(server)
    experiment = client.get_experiment_by_name("beans_exp")
    assert experiment is not None
    runs = list(client.search_runs([experiment.experiment_id]))
    (parent,) = [run for run in runs if run.data.tags.get("beans.role") == "sweep"]
    finished = [run for run in runs if run.info.status == "FINISHED" and run is not parent]
    assert set(Counter(run.data.tags["beans.fingerprint"] for run in finished).values()) == {1}
    assert "RUNNING" not in {run.info.status for run in runs}
