"""The jobs of a plan through one of Hydra's launchers, under one parent run."""

import logging
from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig

from beans_exp.sweep.plan import Plan, PlannedJob
from beans_exp.sweep.results import print_results
from beans_exp.sweep.sweep_jobs import INTERRUPTED, OpenSweep, close_left_open, open_sweep, silence
from beans_exp.tracking import tags
from beans_exp.tracking.parent_run import FINISHED

log = logging.getLogger(__name__)


def launch(plan: Plan, launcher: Launcher, config: DictConfig) -> tuple[Sequence[JobReturn], bool]:
    """Run the jobs of `plan`, print their table, and return what came back and whether every job ended well.

    Raises StoreError for a store that cannot be used.
    """
    place = open_sweep(config, plan.tracking, plan.id)
    place.parent.set_tag(tags.JOBS, str(len(plan.jobs)))
    silence(launcher)
    jobs = [_job_words(plan, job, place) for job in plan.jobs]
    returns: Sequence[JobReturn] = []
    try:
        returns = launcher.launch(jobs, initial_job_idx=0)
    except Exception as error:  # what a cluster's launcher can raise for one job: the others are told of all the same
        log.error("the launcher gave up: %s: %s", type(error).__name__, error)
    finally:
        errors = [result._return_value for result in returns] or [INTERRUPTED] * len(jobs)
        for job, cause in zip(plan.jobs, errors, strict=True):
            close_left_open(place.parent, job.fingerprint, cause)
        outcomes = place.parent.outcomes([job.fingerprint for job in plan.jobs], [_completed(item) for item in returns])
        place.parent.close(outcomes)
        print_results(plan, outcomes, returns, place.hint)
    return returns, all(outcome.status == FINISHED for outcome in outcomes)


def _completed(result: JobReturn) -> bool | None:
    """Whether a job returned a result; None where it was not started."""
    return None if result.status == JobStatus.UNKNOWN else result.status == JobStatus.COMPLETED


def _job_words(plan: Plan, job: PlannedJob, place: OpenSweep) -> list[str]:
    settled: dict[str, Any] = {"sweep.job": plan.jobs.index(job) + 1, "sweep.jobs": len(plan.jobs)}
    if job.config.model.pretrained:
        settled["features.blocks"] = f"[{','.join(map(str, plan.depths(job)))}]"
    return place.words(job.point, settled)
