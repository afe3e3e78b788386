"""A sweep in MLflow: one parent run, found again by the sweep's id, with the table of its jobs."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import mlflow
from mlflow.entities import Run, RunTag

from beans_exp.errors import StoreError, first_line
from beans_exp.files import csv_text
from beans_exp.processes import is_dead, this_process
from beans_exp.schema import Config, TrackingConfig
from beans_exp.tracking import reachability, tags
from beans_exp.tracking.creation import create_once
from beans_exp.tracking.message_queue import new_queue
from beans_exp.tracking.outbox import Outbox, Sink, open_sink
from beans_exp.tracking.patience import patiently
from beans_exp.tracking.resume import end_run
from beans_exp.tracking.reuse import reusable_metrics

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)
Answer = TypeVar("Answer")

FINISHED = "finished"
PRUNED = "pruned"
NOT_RUN = "not run"
SETTLE_SECONDS = 1.0
"""How long two machines may take to see the parent run that the other has created."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of a job: its `beans.status`, and its run if it has one."""

    fingerprint: str
    status: str
    run_id: str = ""
    trained: bool = False
    """Trained by this command; otherwise an earlier run was reused."""
    metrics: dict[str, float] | None = None


@dataclass(frozen=True)
class ParentRun:
    """The open parent run of a sweep; messages are queued while its server is unreachable."""

    client: mlflow.MlflowClient
    uri: str
    experiment_id: str | None
    """None if the server was unreachable when the sweep began."""
    run_id: str | None
    sweep_id: str
    sink: Sink
    opened: float
    """Milliseconds since the epoch."""
    patience: float = TrackingConfig.patience
    """Seconds that the store may be unavailable while it is read."""

    @property
    def is_reachable(self) -> bool:
        """Whether the store can be read now."""
        return self.experiment_id is not None and reachability.is_reachable(self.uri, self.patience)

    def outcomes(self, fingerprints: Sequence[str], completed: Sequence[bool | None]) -> list[Outcome]:
        """Return the outcome of each job.

        `completed` is True for jobs that returned a result and None for those that were not started; it is empty after
        an interrupt.
        """
        results: list[bool | None] = [*completed] or [None] * len(fingerprints)
        pairs = list(zip(fingerprints, results, strict=True))
        return self._read(lambda: [self._outcome(*pair) for pair in pairs]) or [_unread(*pair) for pair in pairs]

    def outcome(self, fingerprint: str, completed: bool | None) -> Outcome:
        """Return the outcome of the job with `fingerprint`; `completed` as in `outcomes`."""
        return self._read(lambda: self._outcome(fingerprint, completed)) or _unread(fingerprint, completed)

    def _read(self, ask: Callable[[], Answer]) -> Answer | None:
        """Return `ask()`; None, with a warning, if the store, which could be used before, cannot be read now."""
        if not self.is_reachable:
            return None
        try:
            return patiently(self.uri, self.patience, ask)
        except StoreError as error:
            log.warning("the store cannot be read: %s", error)
            return None

    def _outcome(self, fingerprint: str, completed: bool | None) -> Outcome:
        found = self._runs(fingerprint)
        ours = [run for run in found if self._has_child(run)]
        trained = [run for run in ours if _ended(run) >= self.opened]
        if trained:
            run = max(trained, key=_ended)
            status = run.data.tags.get(tags.STATUS, "running")
            if completed and run.info.status == "RUNNING":  # its end may be queued
                status = FINISHED
            return Outcome(fingerprint, status, run.info.run_id, trained=True, metrics=run.data.metrics)
        return _earlier_outcome(fingerprint, completed, found, ours)

    def _has_child(self, run: Run) -> bool:
        return run.data.tags.get(tags.SWEEP) == self.sweep_id

    def _runs(self, fingerprint: str) -> list[Run]:
        """Every run with `fingerprint` in the experiment, the newest first."""
        query, order = tags.equals(tags.FINGERPRINT, fingerprint), ["attributes.start_time DESC"]
        return [*self.client.search_runs([self.experiment_id], query, order_by=order)]

    def reusable_metrics(self, config: Config, fingerprint: str) -> dict[str, float] | None:
        """Return the objective's metrics of a finished run, as `reuse.reusable_metrics` does; None if none is found."""
        experiment_id = self.experiment_id
        return self._read(lambda: reusable_metrics(experiment_id, config, fingerprint)) if experiment_id else None

    def close_run(self, fingerprint: str, kind: str, cause: str, *, if_dead: bool = False) -> None:
        """End the run that a job of this sweep left open: `kind` is `oom`, `killed`, `timeout` or `failed`.

        With `if_dead` only if its process is known to be dead: it may be running on another machine.
        """
        self._read(lambda: self._close_runs(fingerprint, kind, cause, if_dead))

    def _close_runs(self, fingerprint: str, kind: str, cause: str, if_dead: bool) -> None:
        for run in self._runs(fingerprint):
            if not self._has_child(run):
                continue
            is_open = run.info.status == "RUNNING" and (not if_dead or is_dead(run.data.tags.get(tags.PROCESS, "")))
            timed_out = kind == "timeout" and run.info.status == "KILLED" and _ended(run) >= self.opened
            if is_open or timed_out:  # a job that timed out ended its run without knowing why
                end_run(self.client, run.info.run_id, cause, "killed" if kind == "timeout" else kind)

    def close(self, outcomes: Sequence[Outcome]) -> None:
        """Write `jobs.csv` and end the parent run: FINISHED only if every job is."""
        self.log_text(jobs_csv(outcomes), "jobs.csv")
        statuses = {outcome.status for outcome in outcomes}
        status, mlflow_status = ("failed", "FAILED") if statuses - {FINISHED, PRUNED} else (FINISHED, "FINISHED")
        if statuses & {NOT_RUN, "killed"}:
            status, mlflow_status = "killed", "KILLED"
        self.set_tag(tags.STATUS, status)
        self.sink.send("end", {"status": mlflow_status, "time": int(1000 * time.time())})
        self.sink.close()

    def set_tag(self, tag: str, value: str) -> None:
        """Set a tag of the parent run."""
        self.sink.send("tags", {tag: value})

    def log_text(self, text: str, file: str) -> None:
        """Log `text` as an artifact of the parent run."""
        self.sink.send("file", {}, file, lambda path: path.write_text(text))

    def log_figure(self, figure: "Figure", file: str) -> None:
        """Log a picture as an artifact of the parent run; one that cannot be drawn or stored is missing."""
        from beans_exp.tracking.figures import png  # Matplotlib is for searches alone

        try:
            picture = png(figure)
            self.sink.send("file", {}, file, lambda path: path.write_bytes(picture))
        except Exception as error:  # whatever Matplotlib and the store can raise
            log.warning("%s is missing: %s: %s", file, type(error).__name__, first_line(error))

    def log_metric(self, name: str, value: float) -> None:
        """Log a metric of the whole sweep, unless it was logged before."""
        run_id = self.run_id
        logged = self._read(lambda: self.client.get_run(run_id)) if run_id else None
        if logged is None or name not in logged.data.metrics:
            self.sink.send("metrics", {"points": [[name, value, int(1000 * time.time()), 0]]})


def open_parent(
    uri: str,
    experiment: str,
    experiment_id: str | None,
    sweep_id: str,
    name: str,
    folder: Path,
    patience: float = TrackingConfig.patience,
) -> ParentRun:
    """Open the parent run of `sweep_id`, an existing one or a new one.

    Without an `experiment_id` its store is unavailable, and messages are queued in `folder`. May be called again after
    an error of the store.
    """
    client = mlflow.MlflowClient(uri)
    opened = 1000 * time.time()
    process = {tags.PROCESS: this_process()}
    new_tags = tags.parent_tags(sweep_id) | process
    if experiment_id is None:
        new = {"name": name, "tags": new_tags, "started": int(opened)}
        queue = new_queue(folder, uri, experiment, sweep_id, None, new)
        outbox = Outbox(queue, retrying=True, patience=patience)
        return ParentRun(client, uri, None, None, sweep_id, outbox, opened, patience)
    run = newest_run(client, experiment_id, tags.is_parent_of(sweep_id))
    if run is None:
        create_once(client, experiment_id, tags.is_parent_of(sweep_id), new_tags, name)
        run = _agreed_parent(client, experiment_id, sweep_id, settle=not uri.startswith(reachability.SQLITE))
    client.update_run(run.info.run_id, status="RUNNING")
    # Machines that share a search do this at the same moment; MLflow retries a batch that collides, but not `set_tag`.
    client.log_batch(run.info.run_id, tags=[RunTag(key, value) for key, value in process.items()])
    sink = open_sink(client, experiment, sweep_id, run.info.run_id, folder, patience)
    return ParentRun(client, uri, experiment_id, run.info.run_id, sweep_id, sink, opened, patience)


def newest_run(client: mlflow.MlflowClient, experiment_id: str, query: str) -> Run | None:
    """Return the run matching `query` that started last, or None."""
    found = client.search_runs([experiment_id], query, order_by=["attributes.start_time DESC"], max_results=1)
    return found[0] if found else None


def jobs_csv(outcomes: Sequence[Outcome]) -> str:
    """Return `jobs.csv`: fingerprint, run, status and origin (`trained` or `reused`), one job a line."""
    rows = [[outcome.fingerprint, outcome.run_id, outcome.status, _origin(outcome)] for outcome in outcomes]
    return csv_text(["fingerprint", "run_id", "status", "origin"], rows)


def _unread(fingerprint: str, completed: bool | None) -> Outcome:
    """The outcome of a job whose store cannot be read."""
    status = FINISHED if completed else NOT_RUN if completed is None else "failed"
    return Outcome(fingerprint, status, trained=True)


def _earlier_outcome(fingerprint: str, completed: bool | None, found: Sequence[Run], ours: Sequence[Run]) -> Outcome:
    """The outcome of a job that trained nothing now, from the runs with its fingerprint and those of its sweep."""
    if completed:
        finished = [run for run in found if run.info.status == "FINISHED"]
        if not finished:  # everything about it may be queued
            return _unread(fingerprint, completed)
        status, reused = FINISHED, finished[0]
    else:
        pruned = [run for run in ours if run.data.tags.get(tags.STATUS) == PRUNED]
        status, reused = (PRUNED, pruned[0]) if pruned else (NOT_RUN if completed is None else "failed", None)
    if reused is None:
        return Outcome(fingerprint, status)
    return Outcome(fingerprint, status, reused.info.run_id, metrics=reused.data.metrics)


def _origin(outcome: Outcome) -> str:
    return "trained" if outcome.trained else "reused" if outcome.run_id else ""


def _agreed_parent(client: mlflow.MlflowClient, experiment_id: str, sweep_id: str, *, settle: bool) -> Run:
    """The parent run that all machines choose which created one at the same moment; the others are deleted."""
    time.sleep(SETTLE_SECONDS if settle else 0)
    order = ["attributes.start_time", "attributes.run_id"]
    first, *others = client.search_runs([experiment_id], tags.is_parent_of(sweep_id), order_by=order)
    for run in others:
        client.delete_run(run.info.run_id)
    return first


def _ended(run: Run) -> float:
    """Milliseconds since the epoch; infinite for a run that has not ended."""
    return run.info.end_time or float("inf")
