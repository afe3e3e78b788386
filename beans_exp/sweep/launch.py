"""The jobs of a plan through one of Hydra's launchers, under one parent run."""

import logging
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from beans_exp.entry import chosen
from beans_exp.errors import BeansExpError
from beans_exp.sweep.plan import Job, Plan
from beans_exp.sweep.table import print_results
from beans_exp.tracking.store import open_store, store_uri
from beans_exp.tracking.sweeps import FINISHED, open_parent


def launch(plan: Plan, launcher: Launcher, config: DictConfig) -> tuple[Sequence[JobReturn], bool]:
    """Run the jobs of `plan`, print their table, and return what came back and whether every job ended well.

    The store, the experiment and the parent run exist before the first job starts. Raises StoreError for a store that
    cannot be used.
    """
    folder = _sweep_folder(config, plan)
    uri = store_uri(plan.tracking)
    experiment_id = open_store(uri, plan.tracking.experiment)
    with FileLock(folder / ".lock"):
        parent = open_parent(uri, experiment_id, plan.id, " ".join(chosen(config.hydra.overrides.task))[:250])
    logging.getLogger(type(launcher).__module__).setLevel(logging.WARNING)  # it would print the settled overrides
    jobs = [_job_overrides(plan, job, uri, parent.run_id) for job in plan.jobs]
    returns: Sequence[JobReturn] = []
    try:
        returns = launcher.launch(jobs, initial_job_idx=0)
    finally:
        completed = [result.status == JobStatus.COMPLETED for result in returns]
        outcomes = parent.outcomes([job.fingerprint for job in plan.jobs], completed)
        parent.close(outcomes)
        print_results(plan, outcomes, returns, uri, experiment_id)
    return returns, all(outcome.status == FINISHED for outcome in outcomes)


def _sweep_folder(config: DictConfig, plan: Plan) -> Path:
    """Make the sweep's folder, named by the sweep, and write down in it what was asked for, as Hydra's sweeper does."""
    with read_write(config), open_dict(config):
        config.sweep.id = plan.id
    folder = Path(config.hydra.sweep.dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(config, folder / "multirun.yaml")
    except OSError as error:
        raise BeansExpError(f"the output folder {folder} cannot be written ({error}). Set hydra.sweep.dir") from error
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
    }
    if job.config.model.pretrained:
        settled["features.blocks"] = f"[{','.join(map(str, plan.depths(job)))}]"
    if job.precision_was_auto:
        settled["trainer.precision"] = job.config.trainer.precision
    return [*job.overrides, *(f"{key}={value}" for key, value in settled.items())]


def _quoted(text: str) -> str:
    escaped = text.replace("'", "\\'")
    return f"'{escaped}'"
