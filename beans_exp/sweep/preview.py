"""The preview of a sweep (`plan=true`): which jobs exist already, and how long the others may take."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING

from omegaconf import DictConfig, open_dict, read_write
from rich.box import SIMPLE_HEAD
from rich.table import Table

from beans_exp.hpo.storage import GRPC, open_storage, storage_file, unusable_storage_as_error
from beans_exp.run_folder import CHECKPOINT
from beans_exp.schema import ConfirmConfig
from beans_exp.sweep.plan import Plan, PlannedJob
from beans_exp.terminal import duration, open_console
from beans_exp.tracking.reuse import reusable_metrics, typical_seconds
from beans_exp.tracking.store import find_experiment, store_uri

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


def print_grid_preview(plan: Plan, config: DictConfig) -> None:
    """Print a row per job of `plan`: the points it merges, the action, and its time in finished runs.

    Nothing is written, not even a store. Raises StoreError for a store that cannot be read.
    """
    experiment_id = find_experiment(store_uri(plan.tracking), plan.tracking.experiment)
    table = Table("job", "fingerprint", "merges", "action", "seconds", box=SIMPLE_HEAD)
    table.columns[-1].justify = "right"
    estimates: list[float | None] = []
    for job in plan.jobs:
        action, seconds = _forecast(job, experiment_id, _sweep_folder(plan, config))
        shown = "unknown" if seconds is None else f"{seconds:.0f}"
        table.add_row(job.label, job.fingerprint, _merges(job), action, shown)
        estimates.append(seconds)
    open_console().print(table)
    print(_total(estimates))


def _merges(job: PlannedJob) -> str:
    dropped = [f"without {option.key}" for option in job.point.inert]
    return ", ".join([*([f"{job.merged} equal points"] if job.merged > 1 else []), *dropped])


def _forecast(job: PlannedJob, experiment_id: str | None, folder: Path) -> tuple[str, float | None]:
    """Return the action for `job`, and the seconds it may take, if known."""
    if experiment_id is None:
        return "train", None
    if job.config.if_exists == "reuse" and reusable_metrics(experiment_id, job.config, job.fingerprint, quiet=True):
        return "reuse", 0.0
    action = "resume" if (folder / job.fingerprint / CHECKPOINT).is_file() else "train"
    return action, typical_seconds(experiment_id, job.config)


def _sweep_folder(plan: Plan, config: DictConfig) -> Path:
    with read_write(config), open_dict(config):
        config.sweep.id = plan.id
    return Path(config.hydra.sweep.dir)


def _total(estimates: Sequence[float | None]) -> str:
    """The time of the jobs that are not reused; those without an equal to go by are counted."""
    unknown = sum(seconds is None for seconds in estimates)
    known = [seconds for seconds in estimates if seconds]
    more = f"{unknown} job{'' if unknown == 1 else 's'} of unknown duration" if unknown else ""
    if more and not known:
        return more
    return f"in sequence: {duration(sum(known))}{f', plus {more}' if more else ''}"


def print_search_preview(
    url: str, name: str, description: Mapping[str, str], n_trials: int, confirm: ConfirmConfig
) -> None:
    """Print the space of study `name` in the storage at `url`, and how many of its trials remain; write nothing."""
    print(f"study {name}: {n_trials} trials over")
    for key, text in description.items():
        print(f"  {key}: {text}")
    from beans_exp.hpo.trial_attrs import counted  # Optuna is for searches alone

    trials = counted(_trials(url, name))
    states = Counter(trial.state.name.lower() for trial in trials)
    print(f"{len(trials)} trials exist{_listed(states)}")
    remaining = max(0, n_trials - len(trials))
    runs = (confirm.top + 1) * confirm.seeds if confirm.top else 0  # the winner is tested on seeds of its own
    print(f"remaining: {remaining} trials, {runs} confirmation runs; {_time(trials, remaining, runs)}")


def _listed(states: Mapping[str, int]) -> str:
    return ": " + ", ".join(f"{count} {state}" for state, count in states.items()) if states else ""


def _time(trials: "list[FrozenTrial]", remaining: int, runs: int) -> str:
    """Return how long that takes if trials last as long as those that ran, confirmation runs as completed ones."""
    from optuna.trial import TrialState

    from beans_exp.hpo.trial_attrs import ORIGIN

    ran = [trial for trial in trials if not str(trial.user_attrs.get(ORIGIN)).startswith(("reused", "equal"))]
    ended = [trial for trial in ran if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    completed = [trial for trial in ended if trial.state == TrialState.COMPLETE]
    if remaining + runs == 0:
        return "nothing to run"
    if not completed:
        return "duration unknown until a trial completes"
    trial_seconds, run_seconds = (
        mean(trial.duration.total_seconds() for trial in some if trial.duration) for some in (ended, completed)
    )
    return f"in sequence: {duration(remaining * trial_seconds + runs * run_seconds)}"


def _trials(url: str, name: str) -> "list[FrozenTrial]":
    """Return the study's trials; none if there is no such study, or no storage yet, which is not made."""
    with unusable_storage_as_error(url):
        if not _exists(url):
            return []
        storage = open_storage(url)
        if name not in {study.study_name for study in storage.get_all_studies()}:
            return []
        return storage.get_all_trials(storage.get_study_id_from_name(name))


def _exists(url: str) -> bool:
    """Whether the storage at `url` has been made."""
    file = storage_file(url)
    if file is not None:
        return file.is_file()
    import sqlalchemy

    return url.startswith(GRPC) or sqlalchemy.inspect(sqlalchemy.create_engine(url)).has_table("studies")
