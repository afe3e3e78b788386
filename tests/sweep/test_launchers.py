"""Hydra's launchers for clusters, with the same commands: submitit on this machine, two Ray nodes, a real Slurm."""

import csv
import io
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import psutil
import pytest
from mlflow.entities import Run

from tests.conftest import TINY, Program, Started
from tests.driver import Driver
from tests.forked import Forked
from tests.servers import free_port, slurm

SMALL = [*TINY, "trainer.batch_size=6", "tracking.save_model=none"]
SEARCH = [
    *["-m", "hydra/sweeper=optuna", *SMALL, "trainer.epochs=2", "reg.dropout=interval(0,0.5)"],
    *["hydra.sweeper.n_trials=2", "hydra.sweeper.n_jobs=2", "confirm.top=0", "hydra.sweeper.max_failure_rate=0"],
    *["hydra/sweeper/pruner=percentile", "hydra.sweeper.pruner.n_startup_trials=1"],
]
EPOCHS = 30
"""Enough for a job to be still running when its node is killed after the first checkpoint."""
LONG = ["-m", *SMALL, "data.train_images=96", f"trainer.epochs={EPOCHS}", "reg=l2"]


def _client() -> mlflow.MlflowClient:
    return mlflow.MlflowClient(f"sqlite:///{Path('mlruns/mlflow.db').resolve()}")


def _runs() -> tuple[Run, list[Run]]:
    """Return the parent run, and the others."""
    experiment = _client().get_experiment_by_name("beans_exp")
    assert experiment is not None
    runs = list(_client().search_runs([experiment.experiment_id]))
    (parent,) = (run for run in runs if run.data.tags.get("beans.role") == "sweep")
    return parent, [run for run in runs if run is not parent]


def _jobs(parent: Run) -> list[dict[str, str]]:
    text = mlflow.artifacts.load_text(f"{parent.info.artifact_uri}/jobs.csv")
    return list(csv.DictReader(io.StringIO(text)))


def _wait_for_checkpoint(process: Forked) -> None:
    while not list(Path("outputs/sweeps").glob("*/*/checkpoint.npz")):
        assert process.poll() is None, Path("log").read_text()
        time.sleep(0.2)


def _require_resumed(job: Run, parent: Run) -> None:
    """The job resumed from a checkpoint, and finished under its parent with each epoch logged once."""
    assert job.data.tags["beans.status"] == "finished" and job.data.tags["mlflow.parentRunId"] == parent.info.run_id
    steps = [metric.step for metric in _client().get_metric_history(job.info.run_id, "train/loss")]
    assert steps == list(range(1, EPOCHS + 1))
    logs = "".join(file.read_text() for file in Path("outputs").rglob("beans_exp.log"))
    assert "resuming killed run" in logs


@pytest.mark.xdist_group("grid")  # for the driver of that group
def test_a_search_prunes_through_submitit(quick: Driver) -> None:
    ended = quick.run(*SEARCH, "hydra/launcher=submitit_local")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    _, jobs = _runs()
    assert len(jobs) == 2 and {run.data.tags["beans.status"] for run in jobs} <= {"finished", "pruned"}


StartNode = Callable[[], "subprocess.Popen[bytes]"]


@pytest.fixture
def ray_node(monkeypatch: pytest.MonkeyPatch) -> Iterator[StartNode]:
    """Start one-core nodes, on this machine, of a cluster whose head runs no jobs."""
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_health_check_period_ms", "500")  # a dead node is noticed after 5 periods of 3 s by default
    address = f"127.0.0.1:{free_port()}"
    program = [str(Path(sys.executable).with_name("ray")), "start", "--block", "--disable-usage-stats"]
    nodes: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str) -> "subprocess.Popen[bytes]":
        with Path("ray.log").open("a") as log:
            node = subprocess.Popen([*program, *arguments], stdout=log, stderr=log, start_new_session=True)
        nodes.append(node)
        while Path("ray.log").read_text().count("Ray runtime started") < len(nodes):
            assert node.poll() is None, Path("ray.log").read_text()
            time.sleep(0.2)
        return node

    start("--head", f"--port={address.partition(':')[2]}", "--include-dashboard=false", "--num-cpus=0")
    monkeypatch.setenv("RAY_ADDRESS", address)
    yield lambda: start(f"--address={address}", "--num-cpus=1")
    for node in nodes:
        _kill_node(node)


def _kill_node(node: "subprocess.Popen[bytes]") -> None:
    if node.poll() is None:
        for child in psutil.Process(node.pid).children(recursive=True):
            child.kill()
        node.kill()
        node.wait(60)


def test_a_job_whose_ray_node_dies_resumes_on_another(started: Started, ray_node: StartNode) -> None:
    first = ray_node()
    process = started(*LONG, "hydra/launcher=ray", until="")
    _wait_for_checkpoint(process)
    _kill_node(first)
    ray_node()
    assert process.wait(180) == 0, Path("log").read_text()
    parent, (job,) = _runs()
    _require_resumed(job, parent)
    assert job.data.tags["beans.threads"] == "1", "the cores that the task reserved"
    assert [(row["status"], row["origin"]) for row in _jobs(parent)] == [("finished", "trained")]


@pytest.fixture
def slurm_node(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A one-node Slurm cluster that `sbatch` uses."""
    with slurm() as variables:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        yield


SLURM = ["hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=null", "hydra.launcher.signal_delay_s=5"]


@pytest.mark.usefixtures("slurm_node")
def test_a_job_preempted_by_slurm_resumes_from_its_checkpoint(started: Started) -> None:
    process = started(*LONG, "hydra/launcher=submitit_slurm", *SLURM, until="")
    _wait_for_checkpoint(process)
    subprocess.run(["scancel", "--signal=USR2", "--user=root"], check=True)  # as Slurm sends before it preempts
    assert process.wait(180) == 0, Path("log").read_text()
    parent, (job,) = _runs()
    _require_resumed(job, parent)


def test_a_launcher_that_is_not_installed_is_one_message(program: Program, tmp_path: Path) -> None:
    overrides = ["hydra/launcher=ray", "hydra.launcher._target_=hydra_plugins.absent.Launcher"]
    ended = program("-m", *TINY, "reg=l1,l2", *overrides)
    assert ended.returncode == 1
    assert "pip install 'beans-exp[ray]'" in ended.stderr and "Traceback" not in ended.stderr
    assert not (tmp_path / "mlruns").exists()
