"""Runs that did not finish: found, closed as killed if their process is dead, and resumed under their own id."""

import logging
from dataclasses import dataclass, field
from pathlib import Path

import mlflow
from mlflow.entities import Run

from beans_exp.processes import is_dead, this_process
from beans_exp.schema import Config
from beans_exp.tracking import tags
from beans_exp.tracking.message_queue import find_queue
from beans_exp.training.checkpoint import Checkpoints

log = logging.getLogger(__name__)

RESUMABLE = ("killed", "failed", "oom")
"""The values of `beans.status` with which a run keeps its checkpoint and its id."""
CONFIG_FILE = "config.yaml"
"""The last artifact of a run's description."""
EPOCH_METRIC = "train/loss"
"""A metric that every epoch has."""


@dataclass(frozen=True)
class ResumedRun:
    """A run that is resumed, and the (metric, step) pairs that were logged."""

    run_id: str
    logged: set[tuple[str, int]] = field(default_factory=set)
    described: bool = False
    """Whether its parameters and its configuration were logged."""
    is_known: bool = True
    """Whether `logged` is known; the store of a run without a queue may be unavailable."""


def close_dead_runs(experiment_id: str) -> None:
    """End every RUNNING run of the experiment whose process, on this machine, is dead."""
    client = mlflow.MlflowClient()
    token = None
    while token != "":
        found = client.search_runs([experiment_id], "attributes.status = 'RUNNING'", page_token=token)
        for run in found:
            if is_dead(run.data.tags.get(tags.PROCESS, "")):
                end_run(client, run.info.run_id, "process died without reporting an error")
        token = found.token or ""


def end_run(client: mlflow.MlflowClient, run_id: str, cause: str, status: str = "killed") -> None:
    """End a run on behalf of its process."""
    client.set_tag(run_id, tags.STATUS, status)
    client.set_tag(run_id, tags.CAUSE, cause[:500])
    client.set_terminated(run_id, "KILLED" if status == "killed" else "FAILED")


def find_resumable(experiment_id: str, config: Config, fingerprint: str, checkpoints: Checkpoints) -> ResumedRun | None:
    """Return the unfinished run that `checkpoints` belong to, or one of the same sweep without epochs; else None.

    A run that logged epochs beyond its checkpoint is not resumed: MLflow cannot delete a logged step. The state in
    `checkpoints` is discarded if its run cannot be resumed.
    """
    client = mlflow.MlflowClient()
    found = client.search_runs([experiment_id], tags.equals(tags.FINGERPRINT, fingerprint))
    for run in (run for run in found if _is_resumable(run, config, checkpoints.run_id)):
        logged = _logged(client, run)
        ids = (run.info.run_id, run.data.tags.get(tags.OUTBOX))
        covered = len(checkpoints.state.epochs) if checkpoints.state and checkpoints.run_id in ids else 0
        if all(step <= covered for name, step in logged if name == EPOCH_METRIC):
            described = CONFIG_FILE in {item.path for item in client.list_artifacts(run.info.run_id)}
            if not covered:
                checkpoints.take()
            status = run.data.tags.get(tags.STATUS, "killed")
            log.info("resuming %s run %s after epoch %d", status, run.info.run_id, covered)
            return ResumedRun(run.info.run_id, logged, described)
    if checkpoints.take():
        log.warning("the checkpoint %s belongs to no run that can be resumed: training starts over", checkpoints.file)
    return None


def find_resumable_offline(folder: Path, fingerprint: str, checkpoints: Checkpoints) -> ResumedRun | None:
    """Return the run that `checkpoints` belong to, while its store is unavailable.

    Its queue in `folder`, if there is one, tells what was logged.
    """
    if checkpoints.state is None:
        return None
    queue = find_queue(folder, fingerprint, checkpoints.run_id)
    if queue is None:
        return ResumedRun(checkpoints.run_id, is_known=False)
    return ResumedRun(checkpoints.run_id, queue.logged, queue.last_content("params") is not None)


def _is_resumable(run: Run, config: Config, checkpoint_run: str) -> bool:
    """Whether `run` belongs to the same sweep as `config`, did not finish, and is not running elsewhere.

    The process of another machine is known to be dead only for the run `checkpoint_run`, whose folder is locked by us;
    so is the folder of a run that an earlier attempt of this process has reopened.
    """
    if run.data.tags.get(tags.SWEEP) != config.sweep.id:
        return False
    if run.info.status != "RUNNING":
        return run.data.tags.get(tags.STATUS) in RESUMABLE
    process = run.data.tags.get(tags.PROCESS, "")
    return run.info.run_id == checkpoint_run or process == this_process() or is_dead(process)


def _logged(client: mlflow.MlflowClient, run: Run) -> set[tuple[str, int]]:
    return {
        (name, point.step) for name in run.data.metrics for point in client.get_metric_history(run.info.run_id, name)
    }
