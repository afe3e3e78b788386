"""`hydra/launcher=isolated`: every job in a fresh process; one that dies costs only itself."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from beans_exp.launcher.options import Options

if TYPE_CHECKING:
    from beans_exp.launcher.processes import JobPool


@dataclass
class IsolatedConf(Options):
    """The keys of `hydra.launcher`; in Hydra's store, so that any Hydra program can use this launcher."""

    _target_: str = "hydra_plugins.beans_exp.isolated.IsolatedLauncher"


ConfigStore.instance().store(group="hydra/launcher", name="isolated", node=IsolatedConf, provider="beans_exp")


class IsolatedLauncher(Launcher):
    """Runs the jobs of a sweep with the options of `IsolatedConf`."""

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.hydra_context: HydraContext | None = None
        self.task_function: TaskFunction | None = None
        self.config: DictConfig | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep Hydra's objects for the jobs."""
        self.hydra_context = hydra_context
        self.task_function = task_function
        self.config = config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run a job for each item of `job_overrides` and return the results in order."""
        with self.jobs() as jobs:
            return jobs.run_all(job_overrides, initial_job_idx)

    def jobs(self, n_jobs: int = 1) -> "JobPool":
        """Return a pool that starts jobs one by one, at most `n_jobs` or the option's number at once."""
        from beans_exp.launcher.processes import JobPool  # too slow to import when Hydra starts
        from beans_exp.sweep.microbatch import halve_microbatch

        assert self.hydra_context is not None and self.task_function is not None and self.config is not None
        bounds = self.bounds(n_jobs)
        return JobPool(bounds, self.hydra_context, self.task_function, self.config, shrink=halve_microbatch)

    def bounds(self, n_jobs: int = 1) -> Options:
        """Return the options, checked, with `n_jobs` jobs at once if that is more than they allow."""
        given = Options(**self.options)
        return replace(given, n_jobs=max(n_jobs, given.n_jobs))
