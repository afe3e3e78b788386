"""Fixtures for the tests of the isolated launcher: pools of jobs without a command line."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.utils import JobReturn
from hydra.types import HydraContext
from omegaconf import DictConfig

from beans_exp.launcher.options import Options
from beans_exp.launcher.processes import JobPool
from beans_exp.launcher.retries import Shrink

Task = Callable[[DictConfig], Any]
OpenPool = Callable[..., AbstractContextManager[JobPool]]
RunJobs = Callable[..., list[JobReturn]]


@contextmanager
def open_pool(folder: Path, task: Task, shrink: Shrink | None = None, **options: Any) -> Iterator[JobPool]:
    """Open a pool whose jobs run `task` in subfolders of `folder`, without retries unless `options` ask for them."""
    with initialize(version_base="1.3", config_path=None):
        overrides = [f"hydra.sweep.dir={folder}", "hydra.job.chdir=false"]
        config = compose(overrides=overrides, return_hydra_config=True)
        context = HydraContext(GlobalHydra.instance().config_loader(), Callbacks())
        with JobPool(Options(**{"retries": 0} | options), context, task, config, shrink) as pool:
            yield pool


@pytest.fixture
def pool(tmp_path: Path) -> OpenPool:
    """Open a pool of jobs with a task and options."""
    return lambda task, shrink=None, **options: open_pool(tmp_path / "sweep", task, shrink, **options)


@pytest.fixture
def run_jobs(pool: OpenPool) -> RunJobs:
    """Run a task once for each of the values of `x`; further arguments are overrides, `shrink` and options."""

    def run(task: Task, values: Sequence[int], *overrides: str, **options: Any) -> list[JobReturn]:
        with pool(task, **options) as jobs:
            return jobs.run_all([[f"+x={x}", *overrides] for x in values], 0)

    return run
