"""`hydra/launcher=isolated`: every job in a fresh process, which costs itself only, whatever becomes of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

if TYPE_CHECKING:
    from beans_exp.launcher.processes import JobPool, Options


@dataclass
class IsolatedConf:
    """The keys of `hydra.launcher`; in Hydra's store, so that any Hydra program can use this launcher."""

    _target_: str = "hydra_plugins.beans_exp.isolated.IsolatedLauncher"
    n_jobs: int = 1
    """At once; the cores are divided among them."""
    timeout: float | None = None
    """Seconds a job may take; it ends as killed, and goes on when the sweep is run again."""
    memory_gb: float | None = None
    """10^9 bytes a job may hold; beyond, it ends as oom."""
    on_error: str = "continue"
    """`stop`: a job that fails leaves the others out that were not started."""
    max_failures: int | None = None
    """So many may fail before the others are left out."""
    retries: int = 1
    """Of a job that was killed (from its checkpoint) or ran out of memory (with half the microbatch)."""


ConfigStore.instance().store(group="hydra/launcher", name="isolated", node=IsolatedConf, provider="beans_exp")


class IsolatedLauncher(Launcher):
    """Runs the jobs of a sweep as `IsolatedConf` says."""

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.hydra_context: HydraContext | None = None
        self.task_function: TaskFunction | None = None
        self.config: DictConfig | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what a job needs from Hydra."""
        self.hydra_context = hydra_context
        self.task_function = task_function
        self.config = config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run a job for each of `job_overrides` and return what came back, in their order."""
        with self.jobs() as jobs:
            return jobs.run_all(job_overrides, initial_job_idx)

    def jobs(self, n_jobs: int = 1) -> "JobPool":
        """Return what starts jobs one by one, `n_jobs` of them at once if that is more than the option says."""
        from beans_exp.launcher.processes import JobPool  # what it imports is not for Hydra's start

        assert self.hydra_context is not None and self.task_function is not None and self.config is not None
        return JobPool(self.bounds(n_jobs), self.hydra_context, self.task_function, self.config)

    def bounds(self, n_jobs: int = 1) -> "Options":
        """Return the options, checked, with `n_jobs` jobs at once if that is more than they say."""
        from beans_exp.launcher.processes import Options

        return Options(**self.options | {"n_jobs": max(n_jobs, int(self.options.get("n_jobs", 1)))})
