"""What a search would do if it were run: what it searches, the trials that are there, how long the others may take."""

from collections import Counter
from collections.abc import Mapping
from statistics import mean

import sqlalchemy
from optuna.trial import FrozenTrial, TrialState

from beans_exp.schema import ConfirmConfig
from beans_exp.storages import GRPC, open_storage, storage_file
from beans_exp.sweep.board import duration
from beans_exp.sweep.study import counted, opening


def print_outlook(url: str, name: str, description: Mapping[str, str], n_trials: int, confirm: ConfirmConfig) -> None:
    """Print what the study `name` in the storage at `url` searches, and what is left of it; nothing is written."""
    print(f"study {name}: {n_trials} trials of")
    for key, text in description.items():
        print(f"  {key}: {text}")
    trials = counted(_trials(url, name))
    states = Counter(trial.state.name.lower() for trial in trials)
    print(f"{len(trials)} are there{''.join(f', {count} {state}' for state, count in states.items())}")
    left, runs = max(0, n_trials - len(trials)), confirm.top * confirm.seeds
    print(f"to come: {left} trials, {runs} confirming runs; {_time(trials, left, runs)}")


def _time(trials: list[FrozenTrial], left: int, runs: int) -> str:
    """How long that takes: trials are taken to be as long as those that ended, confirming runs as completed ones."""
    ended = [trial for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    completed = [trial for trial in ended if trial.state == TrialState.COMPLETE]
    if not completed:
        return "how long that takes is not known before a trial has completed"
    trial, run = (mean(one.duration.total_seconds() for one in some if one.duration) for some in (ended, completed))
    return f"one after another: {duration(left * trial + runs * run)}"


def _trials(url: str, name: str) -> list[FrozenTrial]:
    """The trials that are there; none where there is no such study, or no storage yet, which is not made."""
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
    return url.startswith(GRPC) or sqlalchemy.inspect(sqlalchemy.create_engine(url)).has_table("studies")
