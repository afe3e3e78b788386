"""The Optuna study of a search: found again, checked, asked and told, and cleared of what dead processes left."""

import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, Trial, TrialState

from beans_exp.errors import ConfigError, StoreError
from beans_exp.optuna_parts import instantiate
from beans_exp.sweep import space
from beans_exp.tracking.resume import is_dead, this_process
from beans_exp.trial import open_storage

SEARCH = "beans.search"
"""The attribute of a study that tells what it searches."""
BEAT_SECONDS = 30.0
DEAD_SECONDS = 600.0
"""A trial of another machine that has not been heard of for so long is taken for dead: clocks may differ by minutes."""
OWNER, BEAT, RETRIED, FINGERPRINT, ORIGIN = (
    "beans.process",
    "beans.beat",
    "beans.retried",
    "beans.fingerprint",
    "beans.origin",
)
UNSEEDED = ("GridSampler", "QMCSampler", "BruteForceSampler")
"""Samplers that find their place by themselves; others would draw the same points again after a restart."""


@dataclass(frozen=True)
class Search:
    """What a study searches, kept with it: an equal one finds it again, a different one is refused."""

    space: dict[str, BaseDistribution]
    facts: dict[str, str]
    """What every trial shares and what decides its value, by name, for comparison."""
    directions: list[str]

    @property
    def description(self) -> dict[str, str]:
        return space.describe(self.space) | self.facts


class SharedStudy:
    """A study in its storage, which other processes may work on, too."""

    def __init__(self, url: str, study: optuna.Study, search: Search) -> None:
        self.url = url
        self.study = study
        self.search = search
        self.mine: set[int] = set()
        self.exhausted = False
        self._stop = threading.Event()

    def __enter__(self) -> "SharedStudy":
        threading.Thread(target=self._beat, daemon=True).start()
        return self

    def __exit__(self, *words: object) -> None:
        """Leave the trials that an interrupt cut short to whoever goes on."""
        self._stop.set()
        for trial in self.study.get_trials(states=(TrialState.RUNNING,)):
            if trial._trial_id in self.mine:
                self._give_up(trial)

    @property
    def name(self) -> str:
        return self.study.study_name

    @property
    def counted(self) -> list[FrozenTrial]:
        """The trials that count towards `n_trials`: all but those that were tried again and those that wait."""
        found = self.study.get_trials(deepcopy=False)
        return [trial for trial in found if RETRIED not in trial.user_attrs and trial.state != TrialState.WAITING]

    def ask(self) -> Trial:
        """Return the next trial, owned by this process from now on."""
        try:
            trial = self.study.ask(self.search.space)
        except ImportError as error:
            raise ConfigError(f"hydra.sweeper.sampler needs a package that is not installed: {error}") from error
        trial.set_user_attr(OWNER, this_process())
        trial.set_user_attr(BEAT, time.time())
        self.mine.add(trial._trial_id)
        return trial

    def tell(self, trial: Trial, values: float | Sequence[float] | None, state: TrialState) -> None:
        """End `trial`."""
        self.mine.discard(trial._trial_id)
        try:
            self.study.tell(trial, values if state == TrialState.COMPLETE else None, state)
        except RuntimeError as error:
            if "Study.stop" not in str(error):  # what a sampler calls that has drawn every point
                raise
            self.exhausted = True

    def close_dead(self) -> None:
        """Fail the trials whose process has died; each point is tried once more."""
        for trial in self.study.get_trials(states=(TrialState.RUNNING,)):
            if trial._trial_id not in self.mine and _has_died(trial):
                self._give_up(trial)

    def _give_up(self, trial: FrozenTrial) -> None:
        again = not str(trial.user_attrs.get(ORIGIN)).startswith("retry")
        with suppress(RuntimeError, ValueError, KeyError):  # another process closed it at the same moment
            if again:
                self.study._storage.set_trial_user_attr(trial._trial_id, RETRIED, True)
            self.study._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
            if again:
                self.study.enqueue_trial(trial.params, {ORIGIN: f"retry of trial {trial.number}"})

    def _beat(self) -> None:
        while not self._stop.wait(BEAT_SECONDS):
            for trial_id in list(self.mine):
                with suppress(Exception):  # it ended at the same moment, or its storage is away for a while
                    self.study._storage.set_trial_user_attr(trial_id, BEAT, time.time())


def _has_died(trial: FrozenTrial) -> bool:
    owner = trial.user_attrs.get(OWNER)
    started = trial.datetime_start.timestamp() if trial.datetime_start else 0.0
    silent = time.time() - trial.user_attrs.get(BEAT, started)
    return bool(owner and is_dead(owner)) or silent > DEAD_SECONDS


def open_study(url: str, name: str, search: Search, sampler: Mapping[str, Any]) -> SharedStudy:
    """Open the study `name` in the storage at `url`, which is created where it does not exist yet.

    Raises StoreError for a storage that cannot be used, ConfigError for a study that searches something else.
    """
    import sqlalchemy.exc

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    _sampler(sampler, search, 0)  # before anything is written
    try:
        with _creation_lock(url):
            storage = open_storage(url)
            _require_same(url, name, search, _known(storage, name))
            directions: Any = search.directions
            study = optuna.create_study(storage=storage, study_name=name, directions=directions, load_if_exists=True)
            study.set_user_attr(SEARCH, search.description)
    except (sqlalchemy.exc.SQLAlchemyError, OSError, ImportError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise StoreError(f"hydra.sweeper.storage: {url} cannot be used ({reason}). Set another one") from error
    study.sampler = _sampler(sampler, search, len(study.get_trials(deepcopy=False)))
    return SharedStudy(url, study, search)


def _known(storage: optuna.storages.BaseStorage, name: str) -> Search | None:
    """What the study `name` in `storage` searches, by its description alone; None where there is none."""
    for study in storage.get_all_studies():
        if study.study_name == name:
            return Search({}, study.user_attrs.get(SEARCH, {}), [d.name.lower() for d in study.directions])
    return None


def _require_same(url: str, name: str, search: Search, known: Search | None) -> None:
    if known is None:
        return
    directions = [f"directions: {', '.join(found)}" for found in (known.directions, search.directions)]
    lines = [f"{directions[0]} before, {directions[1]} now"] if directions[0] != directions[1] else []
    lines += space.differences(known.facts, search.description) if known.facts else []
    if lines:
        shown = "\n  ".join(lines)
        raise ConfigError(
            f"hydra.sweeper.study_name={name}: the study in {url} searches something else:\n  {shown}\n"
            "Leave the name out for a study of its own, or take another one"
        )


def _creation_lock(url: str) -> Any:
    """Several processes that create a database at once are kept apart, where it is a file."""
    file = Path(url.removeprefix("sqlite:///")) if url.startswith("sqlite:///") else None
    if file is None:
        return nullcontext()
    file.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(file.with_suffix(".lock"))


def _sampler(node: Mapping[str, Any], search: Search, trials: int) -> optuna.samplers.BaseSampler:
    kind = str(node.get("_target_")).rpartition(".")[2]
    settled = dict(node)
    if kind not in UNSEEDED and isinstance(settled.get("seed"), int):
        settled["seed"] += trials
    more = {"search_space": space.grid(search.space)} if kind == "GridSampler" else {}
    return instantiate(settled, "hydra.sweeper.sampler", **more)
