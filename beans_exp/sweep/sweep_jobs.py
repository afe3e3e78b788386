"""A running sweep: its folder, its parent run, and the overrides that its jobs are started with."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from beans_exp.errors import BeansExpError
from beans_exp.launcher.diagnosis import JobError, error_of
from beans_exp.schema import TrackingConfig
from beans_exp.schema.composed import user_overrides
from beans_exp.sweep.executor import Executor, open_executor
from beans_exp.sweep.point import Point
from beans_exp.tracking.outbox import send_queued
from beans_exp.tracking.parent_run import ParentRun, open_parent
from beans_exp.tracking.resume import close_dead_runs
from beans_exp.tracking.reuse import reusable_metrics
from beans_exp.tracking.store import MLRUNS, open_unless_unreachable, store_uri, ui_hint


@dataclass(frozen=True)
class OpenSweep:
    """A sweep's id, store, experiment, folder and open parent run."""

    sweep_id: str
    uri: str
    experiment_id: str | None
    """None: its server is unreachable."""
    parent: ParentRun
    folder: Path

    @property
    def hint(self) -> str:
        """How to see the sweep in a browser."""
        if self.experiment_id is None:
            return f"saved locally until its server is reachable: python -m beans_exp.sync {self.folder}"
        return ui_hint(self.uri, self.experiment_id, self.sweep_id)

    def job_overrides(self, point: Point, added: Mapping[str, Any]) -> list[str]:
        """Return the overrides of a job: the point's, and those that the parent process adds, `added` included."""
        all_added: dict[str, Any] = {
            "sweep.id": self.sweep_id,
            "sweep.fingerprint": point.fingerprint,
            "tracking.uri": quoted(self.uri),
        }
        all_added |= {"sweep.parent_run": self.parent.run_id} if self.parent.run_id else {}
        all_added |= {"trainer.precision": point.config.trainer.precision} if point.precision_was_auto else {}
        return [*point.overrides, *(f"{key}={value}" for key, value in {**all_added, **added}.items())]

    def close_open_run(self, fingerprint: str, error: BaseException | None) -> None:
        """End the run of a job whose process died before it could."""
        if isinstance(error, JobError):
            self.parent.close_run(fingerprint, error.kind, error.message)

    def close_interrupted_run(self, fingerprint: str) -> None:
        """End the run of a job that was running when the sweep was interrupted, if its process is known to be dead."""
        self.parent.close_run(fingerprint, "killed", "the sweep was interrupted", if_dead=True)


def open_sweep(config: DictConfig, tracking: TrackingConfig, sweep_id: str) -> OpenSweep:
    """Make the sweep's folder, store, experiment and parent run, before the first job starts.

    Runs that a dead process left open are closed. Raises StoreError for a store that cannot be used.
    """
    folder = _sweep_folder(config, sweep_id)
    uri = store_uri(tracking)
    experiment_id = open_unless_unreachable(tracking, may_be_unreachable=tracking.offline)
    name = " ".join(user_overrides(config.hydra.overrides.task))[:250]
    with FileLock(folder / ".lock"):
        if experiment_id is not None:
            send_queued(folder)
            close_dead_runs(experiment_id)
        parent = open_parent(uri, tracking.experiment, experiment_id, sweep_id, name, folder)
    return OpenSweep(sweep_id, uri, experiment_id, parent, folder)


def _sweep_folder(config: DictConfig, sweep_id: str) -> Path:
    """Make the sweep's folder, named by the sweep, and save the configuration in it, as Hydra's sweeper does."""
    with read_write(config), open_dict(config):
        config.sweep.id = sweep_id
    folder = Path(config.hydra.sweep.dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(config, folder / "multirun.yaml")
    except OSError as error:
        raise BeansExpError(f"the output folder {folder} cannot be written ({error}). Set hydra.sweep.dir") from error
    return folder


def silence_launcher(launcher: Launcher) -> None:
    """Keep `launcher` from printing the overrides of its jobs, most of which the user did not choose."""
    logging.getLogger(type(launcher).__module__).setLevel(logging.WARNING)


def quoted(text: str) -> str:
    """Return `text` as a quoted string of Hydra's override grammar."""
    return QuotedString(text, Quote.single).with_quotes()


@dataclass
class SweepJobs:
    """The jobs of a search, started one by one under one parent run."""

    sweep: OpenSweep
    executor: Executor
    started: int = 0
    running: dict[int, str] = field(default_factory=dict)
    """Fingerprints by job number."""
    completed: dict[str, bool | None] = field(default_factory=dict)
    """By fingerprint, whether the job returned a result; None while it has not ended."""

    @property
    def has_room(self) -> bool:
        """Whether another job can be started now."""
        return self.executor.has_room

    def start(self, point: Point, study: str | None = None) -> int:
        """Start a job and return its number; `study` is the serialized handle of its trial."""
        number = self.started
        self.started += 1
        added: dict[str, Any] = {"sweep.job": number + 1}
        if study is not None:
            added["sweep.study"] = quoted(study)
        self.completed.setdefault(point.fingerprint, None)
        self.running[number] = point.fingerprint
        self.executor.start(number, self.sweep.job_overrides(point, added))
        return number

    def reuse(self, point: Point) -> list[float] | None:
        """Return the objective of a finished run equal to `point`, which then joins the sweep; None without one."""
        if point.config.if_exists != "reuse" or self.sweep.experiment_id is None or not self.sweep.parent.is_reachable:
            return None
        metrics = reusable_metrics(self.sweep.experiment_id, point.config, point.fingerprint)
        if metrics is None:
            return None
        self.completed[point.fingerprint] = True
        return [metrics[name] for name in point.config.objective.metrics]

    def wait(self) -> list[tuple[int, JobReturn]]:
        """Wait until jobs have ended, close the runs they left open, and return their numbers and results."""
        ended = self.executor.wait()
        for number, result in ended:
            fingerprint = self.running.pop(number)
            self.sweep.close_open_run(fingerprint, error_of(result))
            self.completed[fingerprint] = result.status == JobStatus.COMPLETED
        return ended

    def close_run(self, fingerprint: str, cause: JobError) -> None:
        """End a run whose process died before it could."""
        self.sweep.close_open_run(fingerprint, cause)

    def run_id(self, fingerprint: str) -> str:
        """Return the id of the run that a job made or reused, or an empty string."""
        return self.sweep.parent.outcome(fingerprint, self.completed.get(fingerprint)).run_id

    def metric(self, point: Point, name: str) -> float | None:
        """Return a metric of the run of `point`."""
        return (self.sweep.parent.outcome(point.fingerprint, completed=True).metrics or {}).get(name)

    def close(self) -> None:
        """End the parent run, with the table of the jobs; none of them is running any more."""
        for fingerprint in self.running.values():
            self.sweep.close_interrupted_run(fingerprint)
        self.sweep.parent.close(self.sweep.parent.outcomes(list(self.completed), list(self.completed.values())))


@contextmanager
def open_jobs(
    launcher: Launcher, config: DictConfig, tracking: TrackingConfig, sweep_id: str, n_jobs: int
) -> Iterator[SweepJobs]:
    """Yield the jobs of a search; at the end, running ones are terminated and the parent run is closed."""
    sweep = open_sweep(config, tracking, sweep_id)
    silence_launcher(launcher)
    with ExitStack() as last, open_executor(launcher, n_jobs) as executor:
        jobs = SweepJobs(sweep, executor)
        last.callback(jobs.close)  # once no job is running
        yield jobs


def default_storage(tracking: TrackingConfig) -> str:
    """Return the URL of the studies' database: beside the runs' or, where those are on a server, in `mlruns/`."""
    uri = store_uri(tracking)
    file = uri.removeprefix("sqlite:///") if uri.startswith("sqlite:///") else str(MLRUNS.resolve() / "mlflow.db")
    return f"sqlite:///{Path(file).with_name('optuna.db')}"


def objective_values(result: JobReturn) -> Sequence[float]:
    """Return the objective that a job returned, as a list even if it is one value."""
    return result.return_value if isinstance(result.return_value, list) else [result.return_value]
