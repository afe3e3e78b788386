"""A sweep in MLflow: one parent run, found again by what the sweep is, with the table of its jobs."""

import csv
import io
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import mlflow
from mlflow.entities import Run

from beans_exp.tracking.resume import PROCESS, end_run, this_process

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FINISHED = "finished"
PRUNED = "pruned"
NOT_RUN = "not run"


@dataclass(frozen=True)
class Outcome:
    """What became of a job: its `beans.status`, and its run if it came so far."""

    fingerprint: str
    status: str
    run_id: str = ""
    trained: bool = False
    """Trained by this command; else an earlier run was reused."""
    metrics: dict[str, float] | None = None


@dataclass(frozen=True)
class Parent:
    """The open parent run of a sweep."""

    client: mlflow.MlflowClient
    experiment_id: str
    run_id: str
    sweep_id: str
    opened: float
    """Milliseconds since the epoch."""

    def outcomes(self, fingerprints: Sequence[str], completed: Sequence[bool | None]) -> list[Outcome]:
        """Return what became of each job.

        `completed` says which jobs returned a result, None for one that was not started; empty after an interrupt.
        """
        ended: list[bool | None] = [*completed] or [None] * len(fingerprints)
        return [self.outcome(mark, done) for mark, done in zip(fingerprints, ended, strict=True)]

    def outcome(self, fingerprint: str, completed: bool | None) -> Outcome:
        """Return what became of the job with `fingerprint`, which returned a result, or not, or was not started."""
        found = self._runs(fingerprint)
        ours = [run for run in found if run.data.tags.get("beans.sweep") == self.sweep_id]
        trained = [run for run in ours if _ended(run) >= self.opened]
        if trained:
            run = max(trained, key=_ended)
            status = run.data.tags.get("beans.status", "running")
            return Outcome(fingerprint, status, run.info.run_id, trained=True, metrics=run.data.metrics)
        finished = [run for run in found if run.info.status == "FINISHED"]
        if not completed:
            return Outcome(fingerprint, NOT_RUN if completed is None else "failed")
        if not finished:
            return Outcome(fingerprint, "failed")
        return Outcome(fingerprint, FINISHED, finished[0].info.run_id, metrics=finished[0].data.metrics)

    def _runs(self, fingerprint: str) -> list[Run]:
        """Every run with `fingerprint` in the experiment, the last started first."""
        query, order = f"tags.`beans.fingerprint` = '{fingerprint}'", ["attributes.start_time DESC"]
        return [*self.client.search_runs([self.experiment_id], query, order_by=order)]

    def close_run(self, fingerprint: str, kind: str, cause: str) -> None:
        """End the run that a job of this sweep left open: `kind` is `oom`, `killed`, `timeout` or `failed`."""
        for run in self._runs(fingerprint):
            if run.info.status == "RUNNING" and run.data.tags.get("beans.sweep") == self.sweep_id:
                end_run(self.client, run.info.run_id, cause, "killed" if kind == "timeout" else kind)

    def close(self, outcomes: Sequence[Outcome]) -> None:
        """Write `jobs.csv` and end the parent run: FINISHED only if every job is."""
        self.client.log_text(self.run_id, jobs_csv(outcomes), "jobs.csv")
        statuses = {outcome.status for outcome in outcomes}
        status, ended = ("failed", "FAILED") if statuses - {FINISHED, PRUNED} else (FINISHED, "FINISHED")
        if statuses & {NOT_RUN, "killed"}:
            status, ended = "killed", "KILLED"
        self.client.set_tag(self.run_id, "beans.status", status)
        self.client.set_terminated(self.run_id, ended)

    def log_text(self, text: str, file: str) -> None:
        """Keep `text` with the sweep as an artifact."""
        self.client.log_text(self.run_id, text, file)

    def log_figure(self, figure: "Figure", file: str) -> None:
        """Keep a picture with the sweep."""
        self.client.log_figure(self.run_id, figure, file)

    def log_metric(self, name: str, value: float) -> None:
        """Log a figure of the sweep as a whole, once."""
        if name not in self.client.get_run(self.run_id).data.metrics:
            self.client.log_metric(self.run_id, name, value)


def open_parent(uri: str, experiment_id: str, sweep_id: str, name: str) -> Parent:
    """Open the parent run of `sweep_id`: the one of the same sweep from before, or a new one."""
    client = mlflow.MlflowClient(uri)
    opened = 1000 * time.time()
    tags = {"beans.sweep": sweep_id, "beans.role": "sweep"}
    query = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
    run = newest_run(client, experiment_id, query)
    if run is None:
        run = client.create_run(experiment_id, tags=tags, run_name=name)
    client.update_run(run.info.run_id, status="RUNNING")
    client.set_tag(run.info.run_id, PROCESS, this_process())
    return Parent(client, experiment_id, run.info.run_id, sweep_id, opened)


def _ended(run: Run) -> float:
    """Milliseconds since the epoch; infinite while it goes on."""
    return run.info.end_time or float("inf")


def newest_run(client: mlflow.MlflowClient, experiment_id: str, query: str) -> Run | None:
    """Return the run that `query` finds and that started last, or None."""
    found = client.search_runs([experiment_id], query, order_by=["attributes.start_time DESC"], max_results=1)
    return found[0] if found else None


def jobs_csv(outcomes: Sequence[Outcome]) -> str:
    """Return a line for each job: its fingerprint, its run, its status, and whether it was trained or reused."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["fingerprint", "run_id", "status", "origin"])
    for outcome in outcomes:
        origin = "trained" if outcome.trained else "reused" if outcome.run_id else ""
        lines.writerow([outcome.fingerprint, outcome.run_id, outcome.status, origin])
    return text.getvalue()
