"""What a plan would do if it were run: which jobs are there already, and how long the others may take."""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING

from omegaconf import DictConfig, open_dict, read_write
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from beans_exp.hpo.storage import GRPC, open_storage, storage_file
from beans_exp.run_folder import CHECKPOINT
from beans_exp.schema import ConfirmConfig
from beans_exp.sweep.plan import Plan, PlannedJob
from beans_exp.terminal import duration
from beans_exp.tracking.reuse import reusable_metrics, typical_seconds
from beans_exp.tracking.store import find_experiment, store_uri

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


def print_grid_preview(plan: Plan, config: DictConfig) -> None:
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


def _stands_for(job: PlannedJob) -> str:
    reduced = [f"without {option.key}" for option in job.point.inert]
    return ", ".join([*([f"{job.points} equal points"] if job.points > 1 else []), *reduced])


def _forecast(job: PlannedJob, experiment_id: str | None, folder: Path) -> tuple[str, float | None]:
    if experiment_id is None:
        return "trained", None
    if job.config.if_exists == "reuse" and reusable_metrics(experiment_id, job.config, job.fingerprint, quiet=True):
        return "reused", 0.0
    usual = typical_seconds(experiment_id, job.config)
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


def print_search_preview(
    url: str, name: str, description: Mapping[str, str], n_trials: int, confirm: ConfirmConfig
) -> None:
    """Print what the study `name` in the storage at `url` searches, and what is left of it; nothing is written."""
    print(f"study {name}: {n_trials} trials of")
    for key, text in description.items():
        print(f"  {key}: {text}")
    from beans_exp.hpo.study import counted  # Optuna is for searches alone

    trials = counted(_trials(url, name))
    states = Counter(trial.state.name.lower() for trial in trials)
    print(f"{len(trials)} are there{''.join(f', {count} {state}' for state, count in states.items())}")
    left, runs = max(0, n_trials - len(trials)), confirm.top * confirm.seeds
    print(f"to come: {left} trials, {runs} confirming runs; {_time(trials, left, runs)}")


def _time(trials: "list[FrozenTrial]", left: int, runs: int) -> str:
    """How long that takes: trials are taken to be as long as those that ended, confirming runs as completed ones."""
    from optuna.trial import TrialState

    ended = [trial for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    completed = [trial for trial in ended if trial.state == TrialState.COMPLETE]
    if not completed:
        return "how long that takes is not known before a trial has completed"
    trial, run = (mean(one.duration.total_seconds() for one in some if one.duration) for some in (ended, completed))
    return f"one after another: {duration(left * trial + runs * run)}"


def _trials(url: str, name: str) -> "list[FrozenTrial]":
    """The trials that are there; none where there is no such study, or no storage yet, which is not made."""
    from beans_exp.hpo.study import opening

    with opening(url):
        if not _is_there(url):
            return []
        storage = open_storage(url)
        known = {study.study_name: study._study_id for study in storage.get_all_studies()}
        return storage.get_all_trials(known[name]) if name in known else []


def _is_there(url: str) -> bool:
    file = storage_file(url)
    if file is not None:
        return file.is_file()
    import sqlalchemy

    return url.startswith(GRPC) or sqlalchemy.inspect(sqlalchemy.create_engine(url)).has_table("studies")
