"""Jobs that are started as they come up: one by one where the launcher can, else a batch at a time."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher

from beans_exp.launcher.worker import JobError, lost


class Executor(Protocol):
    """Where jobs are started, and come back from."""

    @property
    def has_room(self) -> bool:
        """Whether another job can be started now."""

    def start(self, number: int, overrides: Sequence[str]) -> None:
        """Start a job."""

    def ended(self) -> list[tuple[int, JobReturn]]:
        """Wait for jobs to end, and return their numbers with what came back; none where none is under way."""


class BatchExecutor:
    """Any of Hydra's launchers: it takes a batch of jobs and returns when all of them have ended."""

    def __init__(self, launcher: Launcher, size: int) -> None:
        self.launcher = launcher
        self.size = size
        self.waiting: list[tuple[int, list[str]]] = []

    @property
    def has_room(self) -> bool:
        return len(self.waiting) < self.size

    def start(self, number: int, overrides: Sequence[str]) -> None:
        self.waiting.append((number, list(overrides)))

    def ended(self) -> list[tuple[int, JobReturn]]:
        if not self.waiting:
            return []
        batch, self.waiting = self.waiting, []
        try:
            returns = self.launcher.launch([overrides for _, overrides in batch], initial_job_idx=batch[0][0])
        except Exception as error:  # what a cluster's launcher can raise for one of them
            cause = JobError("failed", f"{type(error).__name__}: {error}")
            returns = [lost(overrides, cause) for _, overrides in batch]
        return [(number, result) for (number, _), result in zip(batch, returns, strict=True)]


@contextmanager
def open_executor(launcher: Launcher, n_jobs: int) -> Iterator[Executor]:
    """Yield a stream through `launcher` with `n_jobs` jobs at once; what is under way at the end is ended."""
    if not hasattr(launcher, "jobs"):
        yield BatchExecutor(launcher, n_jobs)
        return
    with launcher.jobs(n_jobs) as jobs:
        yield jobs
