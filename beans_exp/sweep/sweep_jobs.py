"""A sweep that is under way: its folder, its parent run, and the words that its jobs are started with."""

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
from beans_exp.launcher.worker import JobError
from beans_exp.schema import TrackingConfig
from beans_exp.schema.composed import user_overrides
from beans_exp.sweep.executor import Executor, open_executor
from beans_exp.sweep.point import Point
from beans_exp.tracking.outbox import send_queued
from beans_exp.tracking.parent_run import ParentRun, open_parent
from beans_exp.tracking.resume import close_dead_runs
from beans_exp.tracking.reuse import reusable_metrics
from beans_exp.tracking.store import MLRUNS, open_unless_unreachable, store_uri, ui_hint

INTERRUPTED = JobError("killed", "the sweep was interrupted")


@dataclass(frozen=True)
class OpenSweep:
    """Where a sweep is kept: its id, its store, its experiment and its open parent run."""

    sweep_id: str
    uri: str
    experiment_id: str | None
    """None: its server is away."""
    parent: ParentRun
    folder: Path

    @property
    def hint(self) -> str:
        """How to see the sweep in a browser."""
        if self.experiment_id is None:
            return f"kept until its server answers: python -m beans_exp.sync {self.folder}"
        return ui_hint(self.uri, self.experiment_id)

    def words(self, point: Point, settled: Mapping[str, Any]) -> list[str]:
        """The overrides of a job, and what the parent process settled for it."""
        given: dict[str, Any] = {
            "sweep.id": self.sweep_id,
            "sweep.fingerprint": point.fingerprint,
            "tracking.uri": quoted(self.uri),
        }
        given |= {"sweep.parent_run": self.parent.run_id} if self.parent.run_id else {}
        given |= {"trainer.precision": point.config.trainer.precision} if point.precision_was_auto else {}
        return [*point.overrides, *(f"{key}={value}" for key, value in {**given, **settled}.items())]


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
    """Make the sweep's folder, named by the sweep, and write down in it what was asked for, as Hydra's sweeper does."""
    with read_write(config), open_dict(config):
        config.sweep.id = sweep_id
    folder = Path(config.hydra.sweep.dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(config, folder / "multirun.yaml")
    except OSError as error:
        raise BeansExpError(f"the output folder {folder} cannot be written ({error}). Set hydra.sweep.dir") from error
    return folder


def silence(launcher: Launcher) -> None:
    """Keep `launcher` from printing the words of its jobs, which hold what was settled for them."""
    logging.getLogger(type(launcher).__module__).setLevel(logging.WARNING)


def quoted(text: str) -> str:
    """`text` as a quoted string of Hydra's override grammar."""
    return QuotedString(text, Quote.single).with_quotes()


def close_left_open(parent: ParentRun, fingerprint: str, error: object) -> None:
    """End the run of a job whose process could not do it."""
    if isinstance(error, JobError):
        parent.close_run(fingerprint, error.kind, error.message, if_dead=error is INTERRUPTED)


@dataclass
class SweepJobs:
    """Jobs that are started one by one as a search asks for them, under one parent run."""

    place: OpenSweep
    stream: Executor
    started: int = 0
    under_way: dict[int, str] = field(default_factory=dict)
    """Fingerprints by job number."""
    completed: dict[str, bool | None] = field(default_factory=dict)
    """Of every fingerprint that was asked for, whether it came back well; None while it has not."""

    @property
    def has_room(self) -> bool:
        """Whether another job can be started now."""
        return self.stream.has_room

    def start(self, point: Point, study: str | None = None) -> int:
        """Start a job and return its number; `study` is what the job must know of the study of its trial."""
        number = self.started
        self.started += 1
        settled: dict[str, Any] = {"sweep.job": number + 1}
        if study is not None:
            settled["sweep.study"] = quoted(study)
        self.completed.setdefault(point.fingerprint, None)
        self.under_way[number] = point.fingerprint
        self.stream.start(number, self.place.words(point, settled))
        return number

    def finished(self, point: Point) -> list[float] | None:
        """Return the objective of a finished run that is the same as `point`, which then counts as one of ours."""
        if point.config.if_exists != "reuse" or self.place.experiment_id is None or not self.place.parent.is_reachable:
            return None
        metrics = reusable_metrics(self.place.experiment_id, point.config, point.fingerprint)
        if metrics is None:
            return None
        self.completed[point.fingerprint] = True
        return [metrics[name] for name in point.config.objective.metrics]

    def ended(self) -> list[tuple[int, JobReturn]]:
        """Wait for jobs to end; a run that a job left open is closed."""
        found = self.stream.ended()
        for number, result in found:
            fingerprint = self.under_way.pop(number)
            well = result.status == JobStatus.COMPLETED
            close_left_open(self.place.parent, fingerprint, None if well else result._return_value)
            self.completed[fingerprint] = well
        return found

    def close_run(self, fingerprint: str, cause: JobError) -> None:
        """End a run that was left open by a process that cannot do it."""
        close_left_open(self.place.parent, fingerprint, cause)

    def run_of(self, fingerprint: str) -> str:
        """Return the id of the run that a job made or reused, or nothing."""
        return self.place.parent.outcome(fingerprint, self.completed.get(fingerprint)).run_id

    def metric(self, point: Point, name: str) -> float | None:
        """Return a metric of the run of `point`."""
        return (self.place.parent.outcome(point.fingerprint, completed=True).metrics or {}).get(name)

    def close(self) -> None:
        """End the parent run, with the table of the jobs; those under way have ended, in whatever state."""
        for fingerprint in self.under_way.values():
            close_left_open(self.place.parent, fingerprint, INTERRUPTED)
        marks = list(self.completed)
        self.place.parent.close(self.place.parent.outcomes(marks, [self.completed[mark] for mark in marks]))


@contextmanager
def open_jobs(
    launcher: Launcher, config: DictConfig, tracking: TrackingConfig, sweep_id: str, n_jobs: int
) -> Iterator[SweepJobs]:
    """Yield the jobs of a search; at the end those under way are ended, and the parent run is closed."""
    place = open_sweep(config, tracking, sweep_id)
    silence(launcher)
    with ExitStack() as last, open_executor(launcher, n_jobs) as stream:
        jobs = SweepJobs(place, stream)
        last.callback(jobs.close)  # once the jobs under way have ended
        yield jobs


def default_storage(tracking: TrackingConfig) -> str:
    """The address of the studies' database, beside the runs' or, where those are on a server, in `mlruns/`."""
    uri = store_uri(tracking)
    file = uri.removeprefix("sqlite:///") if uri.startswith("sqlite:///") else str(MLRUNS.resolve() / "mlflow.db")
    return f"sqlite:///{Path(file).with_name('optuna.db')}"


def values_of(result: JobReturn) -> Sequence[float]:
    """The objective that a job returned, a list even where there is one."""
    return result.return_value if isinstance(result.return_value, list) else [result.return_value]
