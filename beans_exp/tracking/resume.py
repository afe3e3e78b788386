"""Runs that a dead process left behind: found, closed as killed, and reopened by the same run."""

import logging
import os
import socket
from dataclasses import dataclass, field
from pathlib import Path

import mlflow
import psutil
from mlflow.entities import Run

from beans_exp.checkpoint import Checkpoints
from beans_exp.schema import Config

log = logging.getLogger(__name__)

PROCESS = "beans.process"
"""The tag that names the process which holds a run open."""
EPOCH_MARK = "train/loss"
"""A metric that every epoch has."""


@dataclass(frozen=True)
class Reopened:
    """A run that is gone on with, and the (metric, step) pairs that it has."""

    run_id: str
    logged: set[tuple[str, int]] = field(default_factory=set)


def this_process() -> str:
    """Return what tells this process from every other one: host, boot, process namespace, number, start time."""
    return f"{_here()}/{os.getpid()}/{psutil.Process().create_time():.2f}"


def is_dead(process: str) -> bool:
    """Whether `process` ran on this machine and ended; nothing is known of other machines' processes."""
    here, number, started = process.rsplit("/", 2)
    if here != _here():
        return False
    try:
        found = psutil.Process(int(number))
        return f"{found.create_time():.2f}" != started or found.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _here() -> str:
    boot, namespace = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")  # Linux has them
    facts = [boot.read_text().strip() if boot.exists() else "", namespace.stat().st_ino if namespace.exists() else ""]
    return "/".join(map(str, [socket.gethostname(), *facts]))


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
    client.set_tag(run_id, "beans.cause", cause[:500])
    client.set_terminated(run_id, "KILLED" if status == "killed" else "FAILED")


def reopenable(experiment_id: str, config: Config, fingerprint: str, checkpoints: Checkpoints) -> Reopened | None:
    """Return the killed run that `checkpoints` belong to, or one of the same sweep that has no epoch; else None.

    A run with epochs that no checkpoint covers stays as it is: MLflow cannot take a step back. The state in
    `checkpoints` is dropped where its run cannot be gone on with.
    """
    client = mlflow.MlflowClient()
    for run in _killed(client, experiment_id, config, fingerprint):
        logged = _logged(client, run)
        covered = len(checkpoints.state.epochs) if checkpoints.state and run.info.run_id == checkpoints.run_id else 0
        if all(step <= covered for name, step in logged if name == EPOCH_MARK):
            if not covered:
                checkpoints.take()
            log.info("run %s was killed: it goes on from epoch %d", run.info.run_id, covered)
            return Reopened(run.info.run_id, logged)
    if checkpoints.take():
        log.warning("the checkpoint %s belongs to no run that can go on: training starts anew", checkpoints.file)
    return None


def _killed(client: mlflow.MlflowClient, experiment_id: str, config: Config, fingerprint: str) -> list[Run]:
    """The killed runs that are the same as `config` in the same sweep, the newest first."""
    found = client.search_runs([experiment_id], f"tags.`beans.fingerprint` = '{fingerprint}'")
    same = [run for run in found if run.data.tags.get("beans.sweep") == config.sweep.id]
    return [run for run in same if run.info.status == "RUNNING" or run.data.tags.get("beans.status") == "killed"]


def _logged(client: mlflow.MlflowClient, run: Run) -> set[tuple[str, int]]:
    return {
        (name, point.step) for name in run.data.metrics for point in client.get_metric_history(run.info.run_id, name)
    }
