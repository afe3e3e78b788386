"""Runs the jobs of a search as they come: one by one where the launcher can, else in batches."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher

from beans_exp.launcher.diagnosis import JobError, failed_result


class Executor(Protocol):
    """Starts jobs and returns their results."""

    @property
    def has_room(self) -> bool:
        """Whether another job can be started now."""

    def start(self, number: int, overrides: Sequence[str]) -> None:
        """Start a job."""

    def wait(self) -> list[tuple[int, JobReturn]]:
        """Wait until jobs have ended; return their numbers and results, none if none is running."""


class BatchExecutor:
    """Runs batches through any of Hydra's launchers, which return when all jobs of a batch have ended."""

    def __init__(self, launcher: Launcher, size: int) -> None:
        self.launcher = launcher
        self.size = size
        self.queue: list[tuple[int, list[str]]] = []

    @property
    def has_room(self) -> bool:
        return len(self.queue) < self.size

    def start(self, number: int, overrides: Sequence[str]) -> None:
        self.queue.append((number, list(overrides)))

    def wait(self) -> list[tuple[int, JobReturn]]:
        if not self.queue:
            return []
        batch, self.queue = self.queue, []
        try:
            results = self.launcher.launch([overrides for _, overrides in batch], initial_job_idx=batch[0][0])
        except Exception as error:  # a cluster's launcher may raise for one job: the search continues
            cause = JobError("failed", f"{type(error).__name__}: {error}")
            results = [failed_result(overrides, cause) for _, overrides in batch]
        return [(number, result) for (number, _), result in zip(batch, results, strict=True)]


@contextmanager
def open_executor(launcher: Launcher, n_jobs: int) -> Iterator[Executor]:
    """Yield an executor that runs `n_jobs` jobs at once through `launcher`; at the end, running jobs are terminated."""
    if not hasattr(launcher, "jobs"):
        yield BatchExecutor(launcher, n_jobs)
        return
    with launcher.jobs(n_jobs) as jobs:
        yield jobs
