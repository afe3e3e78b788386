"""A sweep in MLflow: one parent run, found again by what the sweep is, with the table of its jobs."""

import csv
import io
import time
from collections.abc import Sequence
from dataclasses import dataclass

import mlflow
from mlflow.entities import Run

FINISHED = "finished"
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
    opened: float
    """Milliseconds since the epoch."""

    def outcomes(self, fingerprints: Sequence[str], completed: Sequence[bool]) -> list[Outcome]:
        """Return what became of each job.

        `completed` says which jobs returned a result; it is empty after an interrupt.
        """
        ended: list[bool | None] = [*completed] or [None] * len(fingerprints)
        return [self._outcome(mark, done) for mark, done in zip(fingerprints, ended, strict=True)]

    def _outcome(self, fingerprint: str, completed: bool | None) -> Outcome:
        query = f"tags.`beans.fingerprint` = '{fingerprint}'"
        run = newest_run(self.client, self.experiment_id, query)
        if run is not None and run.info.start_time >= self.opened:
            status = run.data.tags.get("beans.status", "running")
            return Outcome(fingerprint, status, run.info.run_id, trained=True, metrics=run.data.metrics)
        if not completed:
            return Outcome(fingerprint, NOT_RUN if completed is None else "failed")
        reused = newest_run(self.client, self.experiment_id, f"{query} and attributes.status = 'FINISHED'")
        if reused is None:
            return Outcome(fingerprint, "failed")
        return Outcome(fingerprint, FINISHED, reused.info.run_id, metrics=reused.data.metrics)

    def close(self, outcomes: Sequence[Outcome]) -> None:
        """Write `jobs.csv` and end the parent run: FINISHED only if every job is."""
        self.client.log_text(self.run_id, jobs_csv(outcomes), "jobs.csv")
        statuses = {outcome.status for outcome in outcomes}
        status, ended = ("failed", "FAILED") if statuses - {FINISHED} else (FINISHED, "FINISHED")
        if statuses & {NOT_RUN, "killed"}:
            status, ended = "killed", "KILLED"
        self.client.set_tag(self.run_id, "beans.status", status)
        self.client.set_terminated(self.run_id, ended)


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
    return Parent(client, experiment_id, run.info.run_id, opened)


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
