"""Runs that a dead process left behind: found, closed as killed, and reopened by the same run."""

import logging
from dataclasses import dataclass, field
from pathlib import Path

import mlflow
from mlflow.entities import Run
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from beans_exp.processes import is_dead
from beans_exp.schema import Config
from beans_exp.tracking.outbox import TAG, find_queue
from beans_exp.training.checkpoint import Checkpoints

log = logging.getLogger(__name__)

PROCESS = "beans.process"
"""The tag that names the process which holds a run open."""
CAUSE = "beans.cause"
"""The tag that says why a run did not end well."""
TRACEBACK = "traceback.txt"
DESCRIBED = "config.yaml"
"""The last artifact that says what a run is."""
EPOCH_MARK = "train/loss"
"""A metric that every epoch has."""


@dataclass(frozen=True)
class ResumedRun:
    """A run that is gone on with, and the (metric, step) pairs that it has."""

    run_id: str
    logged: set[tuple[str, int]] = field(default_factory=set)
    described: bool = False
    """Whether it has its parameters and its configuration."""


def close_dead_runs(experiment_id: str) -> None:
    """End every run of the experiment that is RUNNING for a process of this machine which has ended."""
    client = mlflow.MlflowClient()
    token = None
    while token != "":
        found = client.search_runs([experiment_id], "attributes.status = 'RUNNING'", page_token=token)
        for run in found:
            if PROCESS in run.data.tags and is_dead(run.data.tags[PROCESS]):
                end_run(client, run.info.run_id, "its process ended without a word")
        token = found.token or ""


def end_run(client: mlflow.MlflowClient, run_id: str, cause: str, status: str = "killed") -> None:
    """End a run in the name of a process that could not do it."""
    client.set_tag(run_id, "beans.status", status)
    client.set_tag(run_id, CAUSE, cause[:500])
    client.set_terminated(run_id, "KILLED" if status == "killed" else "FAILED")


def clear_cause(client: mlflow.MlflowClient, run_id: str) -> None:
    """Take back why a run that is reopened did not end well the first time."""
    run = client.get_run(run_id)
    if CAUSE in run.data.tags:
        client.delete_tag(run_id, CAUSE)
    if TRACEBACK in {item.path for item in client.list_artifacts(run_id)}:
        get_artifact_repository(run.info.artifact_uri).delete_artifacts(TRACEBACK)


def find_resumable(experiment_id: str, config: Config, fingerprint: str, checkpoints: Checkpoints) -> ResumedRun | None:
    """Return the killed run that `checkpoints` belong to, or one of the same sweep that has no epoch; else None.

    A run with epochs that no checkpoint covers stays as it is: MLflow cannot take a step back. The state in
    `checkpoints` is dropped where its run cannot be gone on with.
    """
    client = mlflow.MlflowClient()
    found = client.search_runs([experiment_id], f"tags.`beans.fingerprint` = '{fingerprint}'")
    for run in (run for run in found if _is_killed(run, config, checkpoints.run_id)):
        logged = _logged(client, run)
        names = (run.info.run_id, run.data.tags.get(TAG))
        covered = len(checkpoints.state.epochs) if checkpoints.state and checkpoints.run_id in names else 0
        if all(step <= covered for name, step in logged if name == EPOCH_MARK):
            if not covered:
                checkpoints.take()
            log.info("run %s was killed: it goes on from epoch %d", run.info.run_id, covered)
            described = DESCRIBED in {item.path for item in client.list_artifacts(run.info.run_id)}
            return ResumedRun(run.info.run_id, logged, described)
    if checkpoints.take():
        log.warning("the checkpoint %s belongs to no run that can go on: training starts anew", checkpoints.file)
    return None


def find_resumable_offline(folder: Path, fingerprint: str, checkpoints: Checkpoints) -> ResumedRun | None:
    """Return the run that `checkpoints` belong to by the letters it left in `folder`, while its server is away."""
    letters = find_queue(folder, fingerprint, checkpoints.run_id) if checkpoints.state else None
    if letters is not None:
        described = letters.content_of("params") is not None
        return ResumedRun(checkpoints.run_id, letters.logged, described)
    checkpoints.take()
    return None


def _is_killed(run: Run, config: Config, kept: str) -> bool:
    """Whether `run` is of the same sweep as `config`, and its process has ended before it did.

    Of another machine's process that is known only of the run `kept`, whose checkpoint lies in a folder that is ours.
    """
    if run.data.tags.get("beans.sweep") != config.sweep.id:
        return False
    if run.info.status != "RUNNING":
        return run.data.tags.get("beans.status") == "killed"
    return run.info.run_id == kept or is_dead(run.data.tags.get(PROCESS, ""))


def _logged(client: mlflow.MlflowClient, run: Run) -> set[tuple[str, int]]:
    return {
        (name, point.step) for name in run.data.metrics for point in client.get_metric_history(run.info.run_id, name)
    }
