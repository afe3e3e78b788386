"""What a sweep prints: what will be run, and at the end what became of each job."""

from collections.abc import Sequence

from hydra.core.utils import JobReturn, JobStatus
from rich.console import Console
from rich.table import Table

from beans_exp.schema import TrackingConfig
from beans_exp.sweep.plan import Job, Plan
from beans_exp.tracking.store import ui_hint
from beans_exp.tracking.sweeps import Outcome


def print_plan(plan: Plan, whole: bool) -> None:
    """Print how many points were asked for, what was dropped, and, where `whole`, the distinct jobs."""
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"{plan.requested} requested, {len(plan.jobs)} distinct")
    for text in plan.dropped:
        console.print(f"  reduced: {text}", markup=False)
    if whole:
        for job in plan.jobs:
            console.print(f"  {job.fingerprint}  {job.label}", markup=False)


def print_results(
    plan: Plan, outcomes: Sequence[Outcome], returns: Sequence[JobReturn], tracking: TrackingConfig, uri: str
) -> None:
    """Print a row for each job, the causes of those that did not end well, and how to see them in a browser."""
    objective = plan.jobs[0].config.objective
    table = Table("job", "status", *objective.metrics, "test/accuracy", "gap/accuracy", "seconds", "run")
    for column in table.columns[2:-1]:
        column.justify = "right"
    results: list[JobReturn | None] = [*returns] or [None] * len(outcomes)
    for job, outcome, result in zip(plan.jobs, outcomes, results, strict=True):
        table.add_row(*_row(job, outcome, result, len(objective.metrics)))
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    for job, result in zip(plan.jobs, results, strict=True):
        if result is not None and result.status == JobStatus.FAILED:
            console.print(f"{job.label}: {result._return_value}", markup=False)
    console.print(f"experiment {tracking.experiment}: {ui_hint(uri)}", markup=False)


def _row(job: Job, outcome: Outcome, result: JobReturn | None, count: int) -> list[str]:
    values: list[float | None] = [None] * count
    if result is not None and result.status == JobStatus.COMPLETED:
        values = result.return_value if isinstance(result.return_value, list) else [result.return_value]
    metrics = outcome.metrics or {}
    status = outcome.status if outcome.trained or not outcome.run_id else f"{outcome.status} (reused)"
    figures = [*values, metrics.get("test/accuracy"), metrics.get("gap/accuracy")]
    seconds = metrics.get("time/total_seconds")
    return [
        job.label,
        status,
        *("" if value is None else f"{value:.4f}" for value in figures),
        "" if seconds is None else f"{seconds:.0f}",
        outcome.run_id[:8],
    ]
