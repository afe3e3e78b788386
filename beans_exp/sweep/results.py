"""The table that ends a sweep: the outcome of each job."""

from collections.abc import Sequence

from hydra.core.utils import JobReturn, JobStatus
from rich.box import SIMPLE_HEAD
from rich.table import Table

from beans_exp.errors import BeansExpError
from beans_exp.launcher.diagnosis import JobError, error_of
from beans_exp.sweep.plan import Plan, PlannedJob
from beans_exp.sweep.sweep_jobs import objective_values
from beans_exp.terminal import open_console
from beans_exp.tracking.parent_run import Outcome


def print_results(plan: Plan, outcomes: Sequence[Outcome], results: Sequence[JobReturn], hint: str) -> None:
    """Print a row per job, the errors of those that failed, and `hint`, how to see them in a browser.

    `results` is empty after an interrupt.
    """
    objective = plan.objective.metrics
    others = [name for name in ("test/accuracy", "gap/accuracy") if name not in objective]
    table = Table("job", "status", *objective, *others, "seconds", "run", box=SIMPLE_HEAD)
    for column in table.columns[2:-1]:
        column.justify = "right"
    result_or_none: list[JobReturn | None] = [*results] or [None] * len(outcomes)
    for job, outcome, result in zip(plan.jobs, outcomes, result_or_none, strict=True):
        table.add_row(*_row(job, outcome, result, objective, others))
    open_console().print(table)
    for job, result in zip(plan.jobs, result_or_none, strict=True):
        if result is not None and (error := error_of(result)) is not None:
            kind = "" if isinstance(error, BeansExpError | JobError) else f"{type(error).__name__}: "
            print(f"{job.label}: {kind}{error}")
    print(f"experiment {plan.tracking.experiment}: {hint}")


def _row(
    job: PlannedJob, outcome: Outcome, result: JobReturn | None, objective: Sequence[str], others: Sequence[str]
) -> list[str]:
    values: list[float | None] = [None] * len(objective)
    if result is not None and result.status == JobStatus.COMPLETED:
        values = [*objective_values(result)]
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
