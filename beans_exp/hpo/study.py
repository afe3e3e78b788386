"""The Optuna study of a search: found again, checked, asked and told, and cleared of what dead processes left."""

import json
import logging
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any

import optuna
from filelock import FileLock
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, Trial, TrialState

from beans_exp.errors import ConfigError, StoreError
from beans_exp.hpo import space
from beans_exp.hpo.sampler import make_sampler, number_of_points
from beans_exp.hpo.storage import connection_errors, open_storage, storage_file
from beans_exp.processes import host_of, is_dead, this_process

log = logging.getLogger(__name__)

SEARCH = "beans.search"
"""The attribute of a study that tells what it searches."""
BEAT_SECONDS = 30.0
WAIT_SECONDS = 0.5
COLLISIONS, SETTLE_SECONDS = 4, (0.5, 2.0)
"""How often machines may collide in a database that they make, and how long each waits then."""
MISSED_BEATS = 10
"""A trial of another machine is taken for dead after so many of our own beats without one of its: clocks may differ."""
OWNER, BEAT, RETRIED, FINGERPRINT, ORIGIN, TOO_SLOW = (
    "beans.process",
    "beans.beat",
    "beans.retried",
    "beans.fingerprint",
    "beans.origin",
    "beans.too_slow",
)


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

    def __init__(self, url: str, study: optuna.Study, search: Search, points: int | None = None) -> None:
        self.url = url
        self.study = study
        self.search = search
        self.points = points
        """How many there are, where the sampler draws each of them once."""
        self.mine: set[int] = set()
        self._others: dict[int, tuple[float, int]] = {}
        """Of the trials of other processes, the last beat, and how often it was seen again."""
        self._stop = threading.Event()

    def __enter__(self) -> "SharedStudy":
        threading.Thread(target=self._beat, daemon=True).start()
        return self

    def __exit__(self, *words: object) -> None:
        """Leave the trials that an interrupt cut short to whoever goes on."""
        self._stop.set()
        for trial in self.study.get_trials(states=(TrialState.RUNNING,)):
            if trial._trial_id in self.mine:
                self._give_up(trial, again=True)

    @property
    def name(self) -> str:
        return self.study.study_name

    @property
    def counted(self) -> list[FrozenTrial]:
        """The trials that count towards `n_trials`."""
        return counted(self.study.get_trials(deepcopy=False))

    @property
    def exhausted(self) -> bool:
        """Whether every point was drawn, and none waits to be tried again."""
        if self.points is None:
            return False
        return len({json.dumps(trial.params, sort_keys=True) for trial in self.counted}) >= self.points

    def ask(self) -> Trial:
        """Return the next trial, owned by this process before it is drawn, which may take long."""
        try:
            trial = self.study.ask()
            trial.set_user_attr(OWNER, this_process())
            trial.set_user_attr(BEAT, time.time())
            self.mine.add(trial._trial_id)
            for key, distribution in self.search.space.items():
                trial._suggest(key, distribution)
        except ImportError as error:
            raise ConfigError(f"hydra.sweeper.sampler needs a package that is not installed: {error}") from error
        return trial

    def tell(self, trial: Trial, values: float | Sequence[float] | None, state: TrialState) -> None:
        """End `trial`, unless another machine took it for dead and did."""
        self.mine.discard(trial._trial_id)
        try:
            self.study.tell(trial, values if state == TrialState.COMPLETE else None, state, skip_if_finished=True)
        except RuntimeError as error:
            if "Study.stop" not in str(error):  # what a sampler calls that has drawn every point
                raise

    def has_ended(self, trial: Trial) -> bool:
        """Whether `trial` was ended, by whatever process."""
        return self.study._storage.get_trial(trial._trial_id).state.is_finished()

    def withdraw(self, trial: Trial) -> None:
        """Take back a trial that was asked for while other processes asked for the last ones."""
        trial.set_user_attr(RETRIED, True)
        self.tell(trial, None, TrialState.FAIL)

    @property
    def others(self) -> list[FrozenTrial]:
        """The trials that other processes have under way."""
        running = self.study.get_trials(states=(TrialState.RUNNING,))
        return [trial for trial in running if trial._trial_id not in self.mine]

    def close_dead(self) -> list[FrozenTrial]:
        """Fail the trials whose process has died, and return them; each point is tried once more."""
        dead = [trial for trial in self.others if self.has_died(trial)]
        for trial in dead:
            self._give_up(trial, again=not str(trial.user_attrs.get(ORIGIN)).startswith("retry"))
        return dead

    def has_died(self, trial: FrozenTrial) -> bool:
        """Whether the process of another one's `trial` has ended, or was not heard of for long."""
        _, missed = self._others.get(trial._trial_id, (0.0, 0))
        owner = trial.user_attrs.get(OWNER)
        return missed >= MISSED_BEATS or bool(owner and is_dead(owner))

    def wait_for(self, awaited: Callable[[FrozenTrial], bool], what: str) -> None:
        """Wait until no trial that other processes have under way is `awaited`; say once who is waited for."""
        said = False
        while waited := [trial for trial in self.others if awaited(trial) and not self.has_died(trial)]:
            if not said:
                hosts = {host_of(trial.user_attrs.get(OWNER, "?")) for trial in waited}
                log.info("waiting for %s to %s", ", ".join(sorted(hosts)), what)
                said = True
            time.sleep(WAIT_SECONDS)

    def _give_up(self, trial: FrozenTrial, *, again: bool) -> None:
        """End a trial that came to no end; with `again` its point, as the sampler knows it, is asked for next."""
        with suppress(RuntimeError, ValueError, KeyError):  # another process closed it at the same moment
            if again:
                self.study._storage.set_trial_user_attr(trial._trial_id, RETRIED, True)
            self.study._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
            if again:
                waiting = optuna.trial.create_trial(
                    state=TrialState.WAITING,
                    params=trial.params,
                    distributions=trial.distributions,
                    user_attrs={ORIGIN: f"retry of trial {trial.number}"},
                    system_attrs=trial.system_attrs,
                )
                self.study.add_trial(waiting)

    def _beat(self) -> None:
        while not self._stop.wait(BEAT_SECONDS):
            for trial_id in list(self.mine):
                with suppress(Exception):  # it ended at the same moment, or its storage is away for a while
                    self.study._storage.set_trial_user_attr(trial_id, BEAT, time.time())
            with suppress(Exception):
                self.listen()

    def listen(self) -> None:
        """Count the beats of ours for which each trial of another process was silent."""
        heard = {trial._trial_id: trial.user_attrs.get(BEAT, 0.0) for trial in self.others}
        known = self._others
        self._others = {
            number: (beat, known[number][1] + 1 if number in known and known[number][0] == beat else 0)
            for number, beat in heard.items()
        }


def counted(trials: Iterable[FrozenTrial]) -> list[FrozenTrial]:
    """Return those that count towards `n_trials`: all but those that were tried again and those that wait."""
    return [trial for trial in trials if RETRIED not in trial.user_attrs and trial.state != TrialState.WAITING]


def open_study(url: str, name: str, search: Search, sampler: Mapping[str, Any]) -> SharedStudy:
    """Open the study `name` in the storage at `url`, which is created where it does not exist yet.

    Raises StoreError for a storage that cannot be used, ConfigError for a study that searches something else.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    made = make_sampler(sampler, search.space)  # before anything is written
    points = number_of_points(sampler, search.space)
    with opening(url), _creation_lock(url):
        storage = _opened(url)
        _require_same(url, name, search, _known(storage, name))
        directions: Any = search.directions
        study = optuna.create_study(storage=storage, study_name=name, directions=directions, load_if_exists=True)
        study.set_user_attr(SEARCH, search.description)
    study.sampler = made
    return SharedStudy(url, study, search, points)


@contextmanager
def opening(url: str) -> Iterator[None]:
    """Raise StoreError where the storage at `url` cannot be opened in the block."""
    unusable: tuple[type[Exception], ...] = (*connection_errors(url), OSError, ImportError, RuntimeError, ValueError)
    try:
        yield
    except unusable as error:
        reason = str(error).strip().splitlines()[0]
        raise StoreError(f"hydra.sweeper.storage: {url} cannot be used ({reason}). Set another one") from error


@contextmanager
def lost_storage_as_error(url: str) -> Iterator[None]:
    """Raise StoreError where the storage at `url` stops to answer in the block."""
    try:
        yield
    except connection_errors(url) as error:
        reason = str(error).strip().splitlines()[0]
        raise StoreError(f"hydra.sweeper.storage: {url} was lost ({reason}). The same command goes on") from error


@contextmanager
def one_at_a_time(study: SharedStudy) -> Iterator[None]:
    """Hold what follows a search for one process among all machines that share it; wait for the others."""
    if study.url.startswith("sqlite:///"):  # one machine, where runs wait for each other
        yield
        return
    storage, name = study.study._storage, f"{study.name}.confirmation"
    turns = optuna.create_study(storage=storage, study_name=name, load_if_exists=True)
    with SharedStudy(study.url, turns, Search({}, {}, ["minimize"])) as queue:
        mine = queue.ask()
        try:
            queue.wait_for(lambda trial: trial.number < mine.number, "confirm the search")
            yield
        finally:
            queue.tell(mine, 0.0, TrialState.COMPLETE)


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


def _opened(url: str) -> optuna.storages.BaseStorage:
    """Open the storage; machines that find a database empty at one moment collide in making its tables, so wait."""
    from sqlalchemy.exc import IntegrityError, ProgrammingError

    for _ in range(COLLISIONS):
        try:
            return open_storage(url)
        except (IntegrityError, ProgrammingError):  # what is there already: a type, a table, a first row
            time.sleep(random.uniform(*SETTLE_SECONDS))
    return open_storage(url)


def _creation_lock(url: str) -> Any:
    """Several processes that create a database at once are kept apart, where it is a file."""
    file = storage_file(url)
    if file is None:
        return nullcontext()
    file.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(file.with_name(f"{file.name}.creation.lock"))  # Optuna has a journal.lock of its own
