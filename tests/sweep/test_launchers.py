"""Hydra's launchers of clusters, with the same commands: submitit on this machine, Ray on two nodes, a real Slurm."""

import csv
import io
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import psutil
import pytest
from mlflow.entities import Run

from beans_exp.startup.imports import RESERVED_CORES, use_reserved_cores
from tests.conftest import TINY, Program, Started
from tests.servers import free_port, slurm

GRID = ["-m", *TINY, "trainer.epochs=1", "trainer.batch_size=6", "reg=l1,l2"]
SEARCH = [
    *["-m", "hydra/sweeper=optuna", *TINY, "trainer.epochs=2", "trainer.batch_size=6", "reg.dropout=interval(0,0.5)"],
    *["hydra.sweeper.n_trials=2", "hydra.sweeper.n_jobs=2", "confirm.top=0", "hydra.sweeper.max_failure_rate=0"],
    *["hydra/sweeper/pruner=percentile", "hydra.sweeper.pruner.n_startup_trials=1"],
]


def _long(epochs: int) -> list[str]:
    return ["-m", *TINY[:2], *TINY[3:], "data.train_images=96", f"trainer.epochs={epochs}", "trainer.batch_size=6"]


def _runs() -> tuple[Run, list[Run]]:
    """The parent run, and the others."""
    client = mlflow.MlflowClient(f"sqlite:///{Path('mlruns/mlflow.db').resolve()}")
    found = client.get_experiment_by_name("beans_exp")
    assert found is not None
    runs = list(client.search_runs([found.experiment_id]))
    (parent,) = (run for run in runs if run.data.tags.get("beans.role") == "sweep")
    return parent, [run for run in runs if run is not parent]


def _jobs(parent: Run) -> list[dict[str, str]]:
    text = mlflow.artifacts.load_text(f"{parent.info.artifact_uri}/jobs.csv")
    return list(csv.DictReader(io.StringIO(text)))


def _wait_for_checkpoints(count: int, process: "subprocess.Popen[bytes]") -> None:
    while len(list(Path("outputs/sweeps").glob("*/*/checkpoint.npz"))) < count:
        assert process.poll() is None, Path("log").read_text()
        time.sleep(0.2)


def _require_whole(job: Run, parent: Run, epochs: int) -> None:
    """The job is finished under its parent, with each epoch once, after it had gone on from a checkpoint."""
    assert job.data.tags["beans.status"] == "finished" and job.data.tags["mlflow.parentRunId"] == parent.info.run_id
    client = mlflow.MlflowClient(f"sqlite:///{Path('mlruns/mlflow.db').resolve()}")
    steps = [point.step for point in client.get_metric_history(job.info.run_id, "train/loss")]
    assert steps == list(range(1, epochs + 1))
    said = "".join(file.read_text() for file in Path("outputs").rglob("beans_exp.log"))
    assert "resuming killed run" in said


def test_a_search_prunes_through_submitit(program: Program) -> None:
    ended = program(*SEARCH, "hydra/launcher=submitit_local")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    _, jobs = _runs()
    assert len(jobs) == 2 and {run.data.tags["beans.status"] for run in jobs} <= {"finished", "pruned"}


@pytest.mark.parametrize(
    ("variables", "threads"),
    [
        ({"SLURM_CPUS_PER_TASK": "3"}, "3"),
        ({"OMP_NUM_THREADS": "1", "SLURM_CPUS_PER_TASK": "3"}, "1"),  # a task of Ray's within a job of Slurm's
        ({"OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "2"}, "2"),
        ({}, None),
    ],
)
def test_a_job_computes_on_the_cores_that_it_reserved(
    variables: dict[str, str], threads: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TF_NUM_INTRAOP_THREADS", *RESERVED_CORES):
        monkeypatch.setenv(name, "")  # put back at the end, whatever is set meanwhile
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    use_reserved_cores()
    assert os.environ.get("TF_NUM_INTRAOP_THREADS") == threads


StartNode = Callable[[], "subprocess.Popen[bytes]"]


@pytest.fixture
def ray_node(monkeypatch: pytest.MonkeyPatch) -> Iterator[StartNode]:
    """Start nodes of one core, on this machine, of a cluster whose head runs no jobs."""
    pytest.importorskip("ray")
    address = f"127.0.0.1:{free_port()}"
    program = [str(Path(sys.executable).with_name("ray")), "start", "--block", "--disable-usage-stats"]
    nodes: list[subprocess.Popen[bytes]] = []

    def start(*words: str) -> "subprocess.Popen[bytes]":
        with Path("ray.log").open("a") as log:
            node = subprocess.Popen([*program, *words], stdout=log, stderr=log, start_new_session=True)
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


def test_a_job_whose_ray_node_dies_goes_on_at_another(started: Started, ray_node: StartNode) -> None:
    first = ray_node()
    process = started(*_long(60), "reg=l2", "hydra/launcher=ray", until="")
    _wait_for_checkpoints(1, process)
    _kill_node(first)
    ray_node()
    assert process.wait(180) == 0, Path("log").read_text()
    parent, (job,) = _runs()
    _require_whole(job, parent, 60)
    assert job.data.tags["beans.threads"] == "1", "as many as the cores that the task reserved"
    assert [(row["status"], row["origin"]) for row in _jobs(parent)] == [("finished", "trained")]


@pytest.fixture(scope="module")
def slurm_node() -> Iterator[dict[str, str]]:
    with slurm() as variables:
        yield variables


SLURM = ["hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=null", "hydra.launcher.signal_delay_s=5"]


def test_a_job_that_slurm_preempts_goes_on_from_its_checkpoint(
    started: Started, slurm_node: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in slurm_node.items():
        monkeypatch.setenv(name, value)
    process = started(*_long(60), "reg=l2", "hydra/launcher=submitit_slurm", *SLURM, until="")
    _wait_for_checkpoints(1, process)
    subprocess.run(["scancel", "--signal=USR2", "--user=root"], check=True)  # what Slurm sends before it preempts
    assert process.wait(180) == 0, Path("log").read_text()
    parent, (job,) = _runs()
    _require_whole(job, parent, 60)


def test_a_launcher_that_is_not_installed_is_one_message(program: Program, tmp_path: Path) -> None:
    words = [*GRID, "hydra/launcher=ray", "hydra.launcher._target_=hydra_plugins.absent.Launcher"]
    ended = program(*words)
    assert ended.returncode == 1
    assert "pip install 'beans-exp[ray]'" in ended.stderr and "Traceback" not in ended.stderr
    assert not (tmp_path / "mlruns").exists()
