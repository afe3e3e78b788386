"""What a plan would do if it were run: which jobs are there already, and how long the others may take."""

import sys
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, open_dict, read_write
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from beans_exp.running import CHECKPOINT
from beans_exp.sweep.board import duration
from beans_exp.sweep.plan import Job, Plan
from beans_exp.tracking.finished import reusable, usual_seconds
from beans_exp.tracking.store import find_experiment, store_uri


def print_forecast(plan: Plan, config: DictConfig) -> None:
    """Print a row for each job of `plan`: what it stands for, what would become of it, its time in finished runs.

    Nothing is written, not even a store. Raises StoreError for a store that cannot be read.
    """
    experiment_id = find_experiment(store_uri(plan.tracking), plan.tracking.experiment)
    table = Table("job", "fingerprint", "stands for", "would be", "seconds", box=SIMPLE_HEAD)
    table.columns[-1].justify = "right"
    known: list[float | None] = []
    for job in plan.jobs:
        state, seconds = _forecast(job, experiment_id, _folder(plan, config))
        seconds_text = "unknown" if seconds is None else f"{seconds:.0f}"
        table.add_row(job.label, job.fingerprint, _stands_for(job), state, seconds_text)
        known.append(seconds)
    Console(highlight=False, width=None if sys.stdout.isatty() else 160).print(table)
    print(_total(known))


def _stands_for(job: Job) -> str:
    reduced = [f"without {option.key}" for option in job.point.inert]
    return ", ".join([*([f"{job.points} equal points"] if job.points > 1 else []), *reduced])


def _forecast(job: Job, experiment_id: str | None, folder: Path) -> tuple[str, float | None]:
    if experiment_id is None:
        return "trained", None
    if job.config.if_exists == "reuse" and reusable(experiment_id, job.config, job.fingerprint, quiet=True):
        return "reused", 0.0
    usual = usual_seconds(experiment_id, job.config)
    return ("gone on with" if (folder / job.fingerprint / CHECKPOINT).is_file() else "trained"), usual


def _folder(plan: Plan, config: DictConfig) -> Path:
    with read_write(config), open_dict(config):
        config.sweep.id = plan.id
    return Path(config.hydra.sweep.dir)


def _total(seconds: Sequence[float | None]) -> str:
    unknown = sum(value is None for value in seconds)
    total = duration(sum(value for value in seconds if value is not None))
    more = f", and {unknown} jobs of a kind that is not finished yet" if unknown else ""
    return f"one after another: {total}{more}"
