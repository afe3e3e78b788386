"""The jobs of a search, started one by one under one parent run."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig

from beans_exp.launcher.diagnosis import JobError, error_of
from beans_exp.schema import TrackingConfig
from beans_exp.sweep.executor import Executor, open_executor
from beans_exp.sweep.open_sweep import OpenSweep, open_sweep, quoted, silence_launcher
from beans_exp.sweep.point import Point
from beans_exp.tracking.reachability import SQLITE
from beans_exp.tracking.store import MLRUNS, sqlite_file, store_uri


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
        if point.config.if_exists != "reuse":
            return None
        metrics = self.sweep.parent.reusable_metrics(point.config, point.fingerprint)
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
        self.sweep.send_queued()
        self.sweep.close(self.sweep.parent.outcomes(list(self.completed), list(self.completed.values())))


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
    file = sqlite_file(store_uri(tracking)) or MLRUNS.resolve() / "mlflow.db"
    return f"{SQLITE}{file.with_name('optuna.db')}"


def objective_values(result: JobReturn) -> Sequence[float]:
    """Return the objective that a job returned, as a list even if it is one value."""
    return result.return_value if isinstance(result.return_value, list) else [result.return_value]
