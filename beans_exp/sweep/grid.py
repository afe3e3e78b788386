"""A grid from its overrides to its table: plan, parent run, jobs through Hydra's launcher, summary."""

import sys
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from beans_exp.entry import errors_as_messages
from beans_exp.schema import to_config
from beans_exp.sweep.plan import Job, Plan, Point, plan_grid
from beans_exp.sweep.table import print_plan, print_results
from beans_exp.tracking.store import open_store, store_uri
from beans_exp.tracking.sweeps import FINISHED, NOT_RUN, open_parent


def run_grid(
    hydra_context: HydraContext, launcher: Launcher, config: DictConfig, grid: Sequence[list[str]]
) -> Sequence[JobReturn]:
    """Run the combinations in `grid` (the overrides of each) through `launcher` and return what came back.

    Ends the program with a message for what the user can mend, and with exit status 1, after the table, if a job did
    not end well.
    """
    with errors_as_messages():
        points = [_compose(hydra_context, config, overrides) for overrides in grid]
        plan = plan_grid(points)
        print_plan(plan, points[0].config.plan)
        if points[0].config.plan:
            return []
        returns, failed = _run_plan(plan, launcher, config)
    if failed:
        sys.exit(1)
    return returns


def _compose(hydra_context: HydraContext, config: DictConfig, overrides: list[str]) -> Point:
    return Point(overrides, to_config(hydra_context.config_loader.load_sweep_config(config, overrides)))


def _run_plan(plan: Plan, launcher: Launcher, config: DictConfig) -> tuple[Sequence[JobReturn], bool]:
    tracking = plan.jobs[0].config.tracking
    uri = store_uri(tracking)
    experiment_id = open_store(uri, tracking.experiment)
    with FileLock(_sweep_folder(config, plan) / ".lock"):
        parent = open_parent(uri, experiment_id, plan.id, plan.name)
    fingerprints = [job.fingerprint for job in plan.jobs]
    returns: Sequence[JobReturn] = []
    try:
        returns = launcher.launch(
            [_job_overrides(plan, job, uri, parent.run_id) for job in plan.jobs], initial_job_idx=0
        )
    finally:
        outcomes = parent.outcomes(fingerprints, "failed" if returns else NOT_RUN)
        parent.close(outcomes)
        print_results(plan, outcomes, returns, tracking, uri)
    return returns, any(outcome.status != FINISHED for outcome in outcomes)


def _sweep_folder(config: DictConfig, plan: Plan) -> Path:
    """Make the sweep's folder, named by the sweep, and write down in it what was asked for, as Hydra's sweeper does."""
    with read_write(config), open_dict(config):
        config.sweep.id = plan.id
    folder = Path(config.hydra.sweep.dir)
    folder.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(config, folder / "multirun.yaml")
    return folder


def _job_overrides(plan: Plan, job: Job, uri: str, parent_run: str) -> list[str]:
    """The overrides of `job`, and what the parent process settled once for all jobs."""
    settled = {
        "sweep.id": plan.id,
        "sweep.parent_run": parent_run,
        "sweep.fingerprint": job.fingerprint,
        "sweep.job": plan.jobs.index(job) + 1,
        "sweep.jobs": len(plan.jobs),
        "tracking.uri": _quoted(uri),
        "trainer.precision": job.config.trainer.precision,
    }
    return [*job.overrides, *(f"{key}={value}" for key, value in settled.items())]


def _quoted(text: str) -> str:
    escaped = text.replace("'", "\\'")
    return f"'{escaped}'"
