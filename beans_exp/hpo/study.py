"""The Optuna study of a search, which processes may share: opened or created, compared with the search, extended."""

import json
import random
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, Trial, TrialState

from beans_exp.errors import ConfigError
from beans_exp.hpo import space
from beans_exp.hpo.heartbeat import Heartbeat
from beans_exp.hpo.leases import Leases
from beans_exp.hpo.sampler import make_sampler, number_of_points
from beans_exp.hpo.storage import open_storage, storage_file, unusable_storage_as_error
from beans_exp.hpo.trial_attrs import FINGERPRINT, RETRIED, counted
from beans_exp.locks import locked

DESCRIPTION = "beans.search"
"""The attribute of a study that holds its description."""
LOOKS = "beans.looks"
"""The attribute of a study that lists the fingerprints of the winners that were tested."""
UNRECORDED = {"result version": "2 or lower"}
"""Facts of older studies, whose descriptions lack them."""
WORDS = "fixed overrides"
"""What older studies recorded instead of the configuration."""
COLLISIONS, SETTLE_SECONDS = 4, (0.5, 2.0)
"""How often machines may collide while they create a database, and how long each waits before the next attempt."""


@dataclass(frozen=True)
class StudyDescription:
    """The search that a study stores: an equal search resumes the study, a different one is rejected."""

    space: dict[str, BaseDistribution]
    facts: dict[str, str]
    """The settings that all trials share and that determine their values, by name."""
    directions: list[str]
    configuration: dict[str, str] = field(default_factory=dict)
    """The composed values that all trials share, by key, and what each option of the space changes in them."""
    words: str = ""
    """The overrides that all trials share, by which earlier versions knew a study."""

    @property
    def entries(self) -> dict[str, str]:
        """The space, the facts and the configuration as texts, by name."""
        return self.shown | self.configuration

    @property
    def shown(self) -> dict[str, str]:
        """The space and the facts as texts, by name."""
        return space.describe(self.space) | self.facts


class SharedStudy:
    """A study in its storage, on which other processes may work, too."""

    def __init__(
        self, url: str, study: optuna.Study, searched: Mapping[str, BaseDistribution], points: int | None = None
    ) -> None:
        self.url = url
        self.study = study
        self.searched = searched
        self.points = points
        """The size of the space, where the sampler draws each point once."""
        self.leases = Leases(study)
        self._heartbeat = Heartbeat(self._beat)

    def __enter__(self) -> "SharedStudy":
        self._heartbeat.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._heartbeat.stop()
        self.leases.abandon_owned()

    @property
    def name(self) -> str:
        return self.study.study_name

    @property
    def counted(self) -> list[FrozenTrial]:
        """The trials that count toward `n_trials`."""
        return counted(self.study.get_trials(deepcopy=False))

    @property
    def exhausted(self) -> bool:
        """Whether every point was drawn, and none waits for a retry."""
        if self.points is None:
            return False
        return len({json.dumps(trial.params, sort_keys=True) for trial in self.counted}) >= self.points

    def retry_failed(self) -> list[FrozenTrial]:
        """Let the points that failed in earlier commands be drawn again, and return their trials."""
        with _creation_lock(self.url):  # another command may do so at the same moment
            return self.leases.retry_failed()

    def ask(self) -> Trial:
        """Return the next trial, owned by this process before its point is drawn, which may take long."""
        try:
            trial = self.study.ask()
            self.leases.acquire(trial)
            for key, distribution in self.searched.items():
                trial._suggest(key, distribution)
        except ImportError as error:
            raise ConfigError(f"hydra.sweeper.sampler needs a package that is not installed: {error}") from error
        return trial

    def ask_within(self, limit: int) -> Trial | None:
        """Return the next trial, or None if other processes took the last ones of `limit` at the same moment."""
        trial = self.ask()
        if trial.number in {other.number for other in self.counted[:limit]}:
            return trial
        trial.set_user_attr(RETRIED, True)
        self.tell(trial, None, TrialState.FAIL)
        return None

    def tell(self, trial: Trial, values: float | Sequence[float] | None, state: TrialState) -> None:
        """End `trial`, unless another machine presumed it dead and ended it."""
        self.leases.release(trial)
        try:
            self.study.tell(trial, values if state == TrialState.COMPLETE else None, state, skip_if_finished=True)
        except RuntimeError as error:
            if "Study.stop" not in str(error):  # a sampler that has drawn every point calls it
                raise

    def has_ended(self, trial: Trial) -> bool:
        """Whether any process has ended `trial`."""
        return self.study._storage.get_trial(trial._trial_id).state.is_finished()

    def count_look(self, winner: FrozenTrial) -> int:
        """Record that the configuration of `winner` is tested, and return how many different ones have been.

        Call it while no other process confirms the search.
        """
        known = self.study.user_attrs.get(LOOKS, [])
        mark = winner.user_attrs.get(FINGERPRINT, f"trial {winner.number}")
        if mark not in known:
            known = [*known, mark]
            self.study.set_user_attr(LOOKS, known)
        return len(known)

    def _beat(self) -> None:
        self.leases.renew()
        self.leases.count_missed()


def open_study(url: str, name: str, description: StudyDescription, sampler: Mapping[str, Any]) -> SharedStudy:
    """Open the study `name` in the storage at `url`; create both where they do not exist.

    Raises StoreError for a storage that cannot be used, ConfigError for a study of a different search.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    instance = make_sampler(sampler, description.space)  # before anything is written
    points = number_of_points(sampler, description.space)
    with unusable_storage_as_error(url), _creation_lock(url):
        storage = _create_storage(url)
        _require_same(url, name, _stored(storage, name), description)
        directions: Any = description.directions
        study = optuna.create_study(storage=storage, study_name=name, directions=directions, load_if_exists=True)
        study.set_user_attr(DESCRIPTION, description.entries)
    study.sampler = instance
    return SharedStudy(url, study, description.space, points)


def _stored(storage: optuna.storages.BaseStorage, name: str) -> StudyDescription | None:
    """The description of the study `name` in `storage`, all entries among its facts; None if there is no such study."""
    for study in storage.get_all_studies():
        if study.study_name == name:
            directions = [direction.name.lower() for direction in study.directions]
            return StudyDescription({}, study.user_attrs.get(DESCRIPTION, {}), directions)
    return None


def _require_same(url: str, name: str, stored: StudyDescription | None, wanted: StudyDescription) -> None:
    if stored is None:
        return
    before, after = (", ".join(description.directions) for description in (stored, wanted))
    lines = [f"directions: {before} before, {after} now"] if before != after else []
    if stored.facts:
        unrecorded = {key: text for key, text in UNRECORDED.items() if key in wanted.entries}
        now = wanted.shown | {WORDS: wanted.words} if WORDS in stored.facts else wanted.entries
        lines += space.differences(unrecorded | stored.facts, now)
    if lines:
        listed = "\n  ".join(lines)
        raise ConfigError(
            f"hydra.sweeper.study_name={name}: must be a study of the same search; the one in {url} differs:\n"
            f"  {listed}\nSet another name, or leave it out for a new study"
        )


def _create_storage(url: str) -> optuna.storages.BaseStorage:
    """Open the storage; machines that create the tables of one empty database at the same moment collide and retry."""
    from sqlalchemy.exc import IntegrityError, ProgrammingError

    for _ in range(COLLISIONS):
        try:
            return open_storage(url)
        except (IntegrityError, ProgrammingError):  # a type, a table or a first row that exists already
            time.sleep(random.uniform(*SETTLE_SECONDS))
    return open_storage(url)


def _creation_lock(url: str) -> AbstractContextManager[object]:
    """Let one process at a time create a database that is a file."""
    file = storage_file(url)
    if file is None:
        return nullcontext()
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = file.with_name(f"{file.name}.creation.lock")  # Optuna has a journal.lock of its own
    return locked(lock, "is creating the same study")
