"""The status of a sweep's jobs, from its store."""

import re
from dataclasses import dataclass

from beans_exp.processes import host_of, is_dead
from beans_exp.tracking import tags
from beans_exp.tracking.reader import Reader, Record, Sweep
from beans_exp.tracking.resume import EPOCH_METRIC
from beans_exp.tracking.store_errors import store_errors


@dataclass(frozen=True)
class JobStatus:
    """The status of a job."""

    run_id: str
    name: str
    state: str
    """`beans.status`, `running`, or `died` if its process, on this machine, died without reporting an error."""
    host: str
    stage: int | None
    epoch: int | None
    epochs: int
    objective: dict[str, float]
    seconds_left: float | None
    """Assuming that the remaining epochs take as long as the last one."""


def job_statuses(reader: Reader, sweep: Sweep) -> list[JobStatus]:
    """Return the status of each job of `sweep` that has a run, in the order of their start."""
    return [_job_status(reader, record) for record in reader.records(sweep=sweep)]


def _job_status(reader: Reader, record: Record) -> JobStatus:
    process = record.tags.get(tags.PROCESS, "")
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
        steps = [point.step for point in reader.client.get_metric_history(record.run_id, EPOCH_METRIC)]
    return max(steps, default=None)
