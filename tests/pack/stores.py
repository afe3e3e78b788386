"""Stores to pack and to unpack into: trained ones, and ones of a few runs that were only logged."""

import csv
import io
from dataclasses import dataclass, field
from pathlib import Path

import mlflow
import pytest
from mlflow.entities import Metric, Param, Run

from beans_exp.pack.__main__ import main as pack
from beans_exp.tracking.store import open_store
from beans_exp.unpack.__main__ import main as unpack
from tests.conftest import TINY
from tests.forked import run_forked

EXPERIMENT = "beans_exp"
ONE_PROCESS = "hydra/launcher=basic"
"""The runs are packed alike, and a process for each takes most of the time."""
GRID = ["-m", ONE_PROCESS, *TINY, "trainer.batch_size=6", "trainer.epochs=2", "kernel.filters=[2,2,4]", "reg=l1,l2"]
SEARCH = [*GRID[:-1], "hydra/sweeper=optuna", "reg.l2=interval(0,0.1)", "hydra.sweeper.n_trials=2"]
SEARCH += ["confirm.top=1", "confirm.seeds=1"]
PREDICTIONS = "index,label,predicted,p_a,p_b\n0,a,a,0.9,0.1\n1,b,a,0.6,0.4\n"
RANDOM = bytes(range(256)) * 3


def run_program(folder: Path, *words: str) -> str:
    """Run `python -m beans_exp` in `folder` and return its output."""
    ended = run_forked(*words, folder=folder, timeout=500)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


@dataclass(frozen=True)
class Store:
    """The store of a folder."""

    folder: Path

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.folder / 'mlruns' / 'mlflow.db'}"

    @property
    def storage(self) -> str:
        return f"sqlite:///{self.folder / 'mlruns' / 'optuna.db'}"

    @property
    def client(self) -> mlflow.MlflowClient:
        return mlflow.MlflowClient(self.uri)

    @property
    def runs(self) -> list[Run]:
        """All runs, in the order of their start."""
        found = self.client.get_experiment_by_name(EXPERIMENT)
        assert found is not None
        return list(self.client.search_runs([found.experiment_id], order_by=["attributes.start_time", "tags.x"]))

    @property
    def children(self) -> list[Run]:
        return [run for run in self.runs if "beans.role" not in run.data.tags]

    @property
    def parents(self) -> list[Run]:
        return [run for run in self.runs if "beans.role" in run.data.tags]

    @property
    def copies(self) -> dict[str, Run]:
        """Unpacked runs by the ids that they were packed with."""
        return {run.data.tags["beans.packed"]: run for run in self.runs if "beans.packed" in run.data.tags}

    def artifacts(self, run: Run) -> dict[str, bytes]:
        """The artifacts of a run by their paths."""
        folder = Path(run.info.artifact_uri.removeprefix("file://"))
        files = (file for file in folder.rglob("*") if file.is_file())
        return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}

    def jobs(self, parent: Run) -> list[dict[str, str]]:
        text = self.artifacts(parent)["jobs.csv"].decode()
        return list(csv.DictReader(io.StringIO(text)))

    def pack(self, name: str = "runs.zip", *words: str) -> Path:
        """Pack the experiment into a file beside the store."""
        file = self.folder / name
        assert pack([EXPERIMENT, str(file), "--tracking-uri", self.uri, *words]) == 0
        return file

    def unpack(self, file: Path, *words: str) -> None:
        assert unpack([str(file), "--tracking-uri", self.uri, *words]) == 0

    def refusal(self, file: Path, output: pytest.CaptureFixture[str]) -> str:
        """The one-line error that ends unpacking `file`; no store is created for it."""
        before = self.folder.exists() and sorted(self.folder.rglob("*"))
        output.readouterr()
        with pytest.raises(SystemExit) as ended:
            unpack([str(file), "--tracking-uri", self.uri])
        assert ended.value.code == 1
        (message,) = output.readouterr().err.splitlines()
        assert (self.folder.exists() and sorted(self.folder.rglob("*"))) == before
        return str(message)


def trained_store(folder: Path) -> Store:
    """A store with a grid of two runs and a search of two trials and a confirmation, trained in `folder`."""
    run_program(folder, *GRID)
    run_program(folder, *SEARCH)
    return Store(folder)


@dataclass
class Logged:
    """A run that is logged without training."""

    mark: str
    status: str = "finished"
    sweep: str | None = None
    started: int = 1_700_000_000_000
    tags: dict[str, str] = field(default_factory=dict)
    tested: bool = True
    epochs: int = 2

    def write(self, store: Store, parent: str | None = None) -> str:
        """Write the run and return its id."""
        client, experiment = store.client, open_store(store.uri, EXPERIMENT)
        own = {"beans.fingerprint": self.mark} | ({"beans.sweep": self.sweep} if self.sweep else {})
        own |= {"mlflow.parentRunId": parent} if parent else {}
        run_id = client.create_run(experiment, self.started, own | self.tags, self.mark).info.run_id
        params = {"model.name": "lenet", "trainer.select": "last", "objective.name": "val/accuracy", "seed": "0"}
        client.log_batch(run_id, self._metrics(), [Param(*pair) for pair in params.items()])
        if self.tested:
            client.log_text(run_id, PREDICTIONS, "predictions.csv")
        client.log_text(run_id, "a picture", "curves.png")
        if self.status != "running":
            client.set_tag(run_id, "beans.status", self.status)
            ended = {"finished": "FINISHED", "killed": "KILLED", "pruned": "KILLED"}.get(self.status, "FAILED")
            client.set_terminated(run_id, ended, self.started + 60_000)
        return str(run_id)

    def _metrics(self) -> list[Metric]:
        names = ("train/loss", "val/loss", "train/accuracy", "val/accuracy", "stage")
        steps = range(1, self.epochs + 1)
        points = [Metric(name, 1 / step, self.started + step, step) for name in names for step in steps]
        return points + ([Metric("test/accuracy", 0.5, self.started, 0)] if self.tested else [])


def log_sweep(store: Store, sweep: str, jobs: list[Logged], status: str = "finished") -> tuple[str, list[str]]:
    """Write a sweep with its table of `jobs`; return the ids of its parent run and of its runs."""
    client, experiment = store.client, open_store(store.uri, EXPERIMENT)
    tags = {"beans.sweep": sweep, "beans.role": "sweep", "beans.jobs": str(len(jobs)), "beans.process": "some-host/1/2"}
    parent = client.create_run(experiment, 1_600_000_000_000, tags, "reg=l1,l2").info.run_id
    for job in jobs:
        job.sweep = sweep
    ids = [job.write(store, parent) for job in jobs]
    rows = [f"{job.mark},{run_id},{job.status},trained\n" for job, run_id in zip(jobs, ids, strict=True)]
    client.log_text(parent, "".join(["fingerprint,run_id,status,origin\n", *rows]), "jobs.csv")
    client.set_tag(parent, "beans.status", status)
    client.set_terminated(parent, {"finished": "FINISHED"}.get(status, "FAILED"), 1_700_000_100_000)
    return str(parent), ids
