"""Where the jobs of a sweep stand, as its store knows it."""

import re
from dataclasses import dataclass

from beans_exp.processes import host_of, is_dead
from beans_exp.tracking.reader import Reader, Record, Sweep
from beans_exp.tracking.resume import EPOCH_MARK, PROCESS
from beans_exp.tracking.store import store_errors


@dataclass(frozen=True)
class JobStatus:
    """A job of a sweep, and where it stands."""

    run_id: str
    name: str
    state: str
    """`beans.status`, `running`, or `died` where its process, on this machine, ended without a word."""
    host: str
    stage: int | None
    epoch: int | None
    epochs: int
    objective: dict[str, float]
    seconds_left: float | None
    """If the epochs to come take as long as the last one."""


def job_statuses(reader: Reader, sweep: Sweep) -> list[JobStatus]:
    """Return where each job of `sweep` stands that has a run, the first started first."""
    return [_progress(reader, record) for record in reader.records(sweep=sweep)]


def _progress(reader: Reader, record: Record) -> JobStatus:
    process = record.tags.get(PROCESS, "")
    state = "died" if record.status == "running" and is_dead(process) else record.status
    epoch = _last_epoch(reader, record) if record.status == "running" else None
    epochs = int(record.params.get("trainer.epochs", 0))
    if record.params.get("finetune.blocks", "0") != "0":
        epochs += int(record.params["finetune.epochs"])
    seconds = record.metrics.get("time/epoch_seconds")
    names = re.findall(r"[\w/]+", record.params.get("objective.name", ""))
    return JobStatus(
        record.run_id,
        record.name,
        state,
        host_of(process),
        int(record.metrics["stage"]) if epoch else None,
        epoch,
        epochs,
        {name: record.metrics[name] for name in names if name in record.metrics},
        (epochs - epoch) * seconds if epoch and seconds is not None and state == "running" else None,
    )


def _last_epoch(reader: Reader, record: Record) -> int | None:
    with store_errors(reader.uri):
        steps = [point.step for point in reader.client.get_metric_history(record.run_id, EPOCH_MARK)]
    return max(steps, default=None)
