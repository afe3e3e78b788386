"""The table that ends a sweep: what became of each job."""

import sys
from collections.abc import Sequence

from hydra.core.utils import JobReturn, JobStatus
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from beans_exp.errors import BeansExpError
from beans_exp.sweep.plan import Plan, PlannedJob
from beans_exp.tracking.parent_run import Outcome


def print_results(plan: Plan, outcomes: Sequence[Outcome], returns: Sequence[JobReturn], hint: str) -> None:
    """Print a row for each job, the causes of those that failed, and `hint`, how to see them in a browser."""
    objective = plan.objective.metrics
    others = [name for name in ("test/accuracy", "gap/accuracy") if name not in objective]
    table = Table("job", "status", *objective, *others, "seconds", "run", box=SIMPLE_HEAD)
    for column in table.columns[2:-1]:
        column.justify = "right"
    results: list[JobReturn | None] = [*returns] or [None] * len(outcomes)
    for job, outcome, result in zip(plan.jobs, outcomes, results, strict=True):
        table.add_row(*_row(job, outcome, result, objective, others))
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    console.print(table)
    for job, result in zip(plan.jobs, results, strict=True):
        if result is not None and result.status == JobStatus.FAILED:
            error = result._return_value
            print(f"{job.label}: {'' if isinstance(error, BeansExpError) else type(error).__name__ + ': '}{error}")
    print(f"experiment {plan.tracking.experiment}: {hint}")


def _row(
    job: PlannedJob, outcome: Outcome, result: JobReturn | None, objective: Sequence[str], others: Sequence[str]
) -> list[str]:
    values: list[float | None] = [None] * len(objective)
    if result is not None and result.status == JobStatus.COMPLETED:
        values = result.return_value if isinstance(result.return_value, list) else [result.return_value]
    metrics = outcome.metrics or {}
    values += [metrics.get(name) for name in others]
    seconds = metrics.get("time/total_seconds")
    reused = bool(outcome.run_id) and not outcome.trained
    return [
        job.label,
        f"{outcome.status} (reused)" if reused else outcome.status,
        *("" if value is None else f"{value:.4f}" for value in values),
        "" if seconds is None else f"{seconds:.0f}",
        outcome.run_id[:8],
    ]
