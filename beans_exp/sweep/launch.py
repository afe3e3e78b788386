"""Runs the jobs of a plan through one of Hydra's launchers, under one parent run."""

import logging
from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig

from beans_exp.launcher.diagnosis import error_of
from beans_exp.startup.console import exit_status
from beans_exp.sweep.open_sweep import OpenSweep, open_sweep, silence_launcher
from beans_exp.sweep.plan import Plan, PlannedJob
from beans_exp.sweep.results import print_results
from beans_exp.tracking import tags
from beans_exp.tracking.parent_run import FINISHED

log = logging.getLogger(__name__)


def launch(plan: Plan, launcher: Launcher, config: DictConfig) -> tuple[Sequence[JobReturn], int]:
    """Run the jobs of `plan`, print their table, and return their results and the exit status of the program.

    Raises StoreError for a store that cannot be used.
    """
    sweep = open_sweep(config, plan.tracking, plan.id)
    sweep.parent.set_tag(tags.JOBS, str(len(plan.jobs)))
    silence_launcher(launcher)
    jobs = [_job_overrides(plan, job, sweep) for job in plan.jobs]
    results: Sequence[JobReturn] = []
    try:
        results = launcher.launch(jobs, initial_job_idx=0)
    except Exception as error:  # a cluster's launcher may raise for one job: the others are in the table all the same
        log.error("the launcher failed: %s: %s", type(error).__name__, error)
    finally:
        _close_open_runs(sweep, plan, results)
        sweep.send_queued()
        outcomes = sweep.parent.outcomes([job.fingerprint for job in plan.jobs], [_completed(item) for item in results])
        print_results(plan, outcomes, results, sweep.hint)
        sweep.close(outcomes)
        unsent = sweep.report_unsent()
    failed = any(outcome.status != FINISHED for outcome in outcomes)
    return results, exit_status(failed=failed, unsent=unsent)


def _close_open_runs(sweep: OpenSweep, plan: Plan, results: Sequence[JobReturn]) -> None:
    """End the runs of jobs whose processes could not; `results` is empty after an interrupt."""
    for job, result in zip(plan.jobs, results, strict=bool(results)):
        sweep.close_open_run(job.fingerprint, error_of(result))
    for job in plan.jobs if not results else ():
        sweep.close_interrupted_run(job.fingerprint)


def _completed(result: JobReturn) -> bool | None:
    """Whether a job returned a result; None if it was not started."""
    return None if result.status == JobStatus.UNKNOWN else result.status == JobStatus.COMPLETED


def _job_overrides(plan: Plan, job: PlannedJob, sweep: OpenSweep) -> list[str]:
    added: dict[str, Any] = {"sweep.job": plan.jobs.index(job) + 1, "sweep.jobs": len(plan.jobs)}
    if job.config.model.pretrained:
        added["features.blocks"] = f"[{','.join(map(str, plan.depths(job)))}]"
    return sweep.job_overrides(job.point, added)
