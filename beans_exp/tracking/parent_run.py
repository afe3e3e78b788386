"""A sweep in MLflow: one parent run, found again by what the sweep is, with the table of its jobs."""

import csv
import io
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import mlflow
from mlflow.entities import Run, RunTag

from beans_exp.processes import is_dead, this_process
from beans_exp.tracking.outbox import Outbox, Sink, new_queue, open_sink, write_text
from beans_exp.tracking.resume import PROCESS, end_run
from beans_exp.tracking.store import answers

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FINISHED = "finished"
PRUNED = "pruned"
NOT_RUN = "not run"
JOBS, STUDY = "beans.jobs", "beans.study"
"""Tags of a parent run that say what is to come: a grid's number of jobs, a search's study."""
SETTLE_SECONDS = 1.0
"""How long two machines may take to see the parent that the other has made."""


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
class ParentRun:
    """The open parent run of a sweep; what it says is kept on disk while its server is away."""

    client: mlflow.MlflowClient
    uri: str
    experiment_id: str | None
    """None: the server was away when the sweep began."""
    run_id: str | None
    sweep_id: str
    post: Sink
    opened: float
    """Milliseconds since the epoch."""

    @property
    def is_reachable(self) -> bool:
        """Whether the store can be read now."""
        return self.experiment_id is not None and answers(self.uri)

    def outcomes(self, fingerprints: Sequence[str], completed: Sequence[bool | None]) -> list[Outcome]:
        """Return what became of each job.

        `completed` says which jobs returned a result, None for one that was not started; empty after an interrupt.
        """
        ended: list[bool | None] = [*completed] or [None] * len(fingerprints)
        reachable = self.is_reachable  # asked once for all
        return [self._outcome(mark, done, reachable) for mark, done in zip(fingerprints, ended, strict=True)]

    def outcome(self, fingerprint: str, completed: bool | None) -> Outcome:
        """Return what became of the job with `fingerprint`, which returned a result, or not, or was not started."""
        return self._outcome(fingerprint, completed, self.is_reachable)

    def _outcome(self, fingerprint: str, completed: bool | None, reachable: bool) -> Outcome:
        if not reachable:
            status = FINISHED if completed else NOT_RUN if completed is None else "failed"
            return Outcome(fingerprint, status, trained=True)
        found = self._runs(fingerprint)
        ours = [run for run in found if run.data.tags.get("beans.sweep") == self.sweep_id]
        trained = [run for run in ours if _ended(run) >= self.opened]
        if trained:
            run = max(trained, key=_ended)
            unsent = FINISHED if completed else "running"  # its last letters are on their way
            status = run.data.tags.get("beans.status", unsent)
            return Outcome(fingerprint, status, run.info.run_id, trained=True, metrics=run.data.metrics)
        finished = [run for run in found if run.info.status == "FINISHED"]
        pruned = [run for run in ours if run.data.tags.get("beans.status") == PRUNED]
        if not completed and pruned:  # by an earlier command
            return Outcome(fingerprint, PRUNED, pruned[0].info.run_id, metrics=pruned[0].data.metrics)
        if not completed:
            return Outcome(fingerprint, NOT_RUN if completed is None else "failed")
        if not finished:
            return Outcome(fingerprint, "failed")
        return Outcome(fingerprint, FINISHED, finished[0].info.run_id, metrics=finished[0].data.metrics)

    def _runs(self, fingerprint: str) -> list[Run]:
        """Every run with `fingerprint` in the experiment, the last started first."""
        query, order = f"tags.`beans.fingerprint` = '{fingerprint}'", ["attributes.start_time DESC"]
        return [*self.client.search_runs([self.experiment_id], query, order_by=order)]

    def close_run(self, fingerprint: str, kind: str, cause: str, *, if_dead: bool = False) -> None:
        """End the run that a job of this sweep left open: `kind` is `oom`, `killed`, `timeout` or `failed`.

        With `if_dead` only where its process is known to have ended: another machine's may go on.
        """
        for run in self._runs(fingerprint) if self.is_reachable else ():
            if run.data.tags.get("beans.sweep") != self.sweep_id:
                continue
            is_open = run.info.status == "RUNNING" and (not if_dead or is_dead(run.data.tags.get(PROCESS, "")))
            told_to_end = kind == "timeout" and run.info.status == "KILLED" and _ended(run) >= self.opened
            if is_open or told_to_end:  # the latter knows who ended it, not why
                end_run(self.client, run.info.run_id, cause, "killed" if kind == "timeout" else kind)

    def close(self, outcomes: Sequence[Outcome]) -> None:
        """Write `jobs.csv` and end the parent run: FINISHED only if every job is."""
        self.log_text(jobs_csv(outcomes), "jobs.csv")
        statuses = {outcome.status for outcome in outcomes}
        status, ended = ("failed", "FAILED") if statuses - {FINISHED, PRUNED} else (FINISHED, "FINISHED")
        if statuses & {NOT_RUN, "killed"}:
            status, ended = "killed", "KILLED"
        self.post.send("tags", {"beans.status": status})
        self.post.send("end", {"status": ended, "time": int(1000 * time.time())})
        self.post.close()

    def set_tag(self, tag: str, value: str) -> None:
        """Say what is to come, for whoever watches the sweep."""
        self.post.send("tags", {tag: value})

    def log_text(self, text: str, file: str) -> None:
        """Keep `text` with the sweep as an artifact."""
        self.post.send("file", {}, file, lambda path: write_text(path, text))

    def log_figure(self, figure: "Figure", file: str) -> None:
        """Keep a picture with the sweep."""
        self.post.send("file", {}, file, figure.savefig)

    def log_metric(self, name: str, value: float) -> None:
        """Log a figure of the sweep as a whole, once."""
        if not (self.run_id and self.is_reachable and name in self.client.get_run(self.run_id).data.metrics):
            self.post.send("metrics", {"points": [[name, value, int(1000 * time.time()), 0]]})


def open_parent(
    uri: str, experiment: str, experiment_id: str | None, sweep_id: str, name: str, folder: Path
) -> ParentRun:
    """Open the parent run of `sweep_id`: the one of the same sweep from before, or a new one.

    Without an `experiment_id` its server is away: what it says is kept in `folder`.
    """
    client = mlflow.MlflowClient(uri)
    opened = 1000 * time.time()
    tags = {"beans.sweep": sweep_id, "beans.role": "sweep"}
    if experiment_id is None:
        new = {"name": name, "tags": tags | {PROCESS: this_process()}, "started": int(opened)}
        kept = Outbox(new_queue(folder, uri, experiment, sweep_id, None, new))
        return ParentRun(client, uri, None, None, sweep_id, kept, opened)
    query = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
    run = newest_run(client, experiment_id, query)
    if run is None:
        client.create_run(experiment_id, tags=tags | {PROCESS: this_process()}, run_name=name)
        run = _the_one(client, experiment_id, query, 0.0 if uri.startswith("sqlite:///") else SETTLE_SECONDS)
    client.update_run(run.info.run_id, status="RUNNING")
    # Machines that share a search do this at one moment: unlike `set_tag`, a batch is tried again where they collide.
    client.log_batch(run.info.run_id, tags=[RunTag(PROCESS, this_process())])
    post = open_sink(client, uri, experiment, sweep_id, run.info.run_id, folder)
    return ParentRun(client, uri, experiment_id, run.info.run_id, sweep_id, post, opened)


def _the_one(client: mlflow.MlflowClient, experiment_id: str, query: str, seconds: float) -> Run:
    """The parent that all machines agree on which made one at the same moment; the others are deleted."""
    time.sleep(seconds)
    first, *others = client.search_runs([experiment_id], query, order_by=["attributes.start_time", "attributes.run_id"])
    for run in others:
        client.delete_run(run.info.run_id)
    return first


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
