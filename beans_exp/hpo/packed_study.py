"""The Optuna study of a search as it travels: read from its storage, merged into another one."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

import optuna

from beans_exp.errors import StoreError, first_line
from beans_exp.hpo.packed_trial import trial_from_json, trial_identity, trial_to_json
from beans_exp.hpo.storage import absolute_storage, connection_errors, open_storage, storage_file
from beans_exp.hpo.study import DESCRIPTION
from beans_exp.locks import locked
from beans_exp.schema.rules import without_password

STUDY_PREFIX = "qmc:"
"""The position of a quasi-random sequence, an attribute of the study."""
BAD_CONTENT = (AttributeError, KeyError, OverflowError, RecursionError, TypeError, ValueError)
"""Errors of Python and Optuna about a trial that cannot be."""


@dataclass(frozen=True)
class PackedStudy:
    """A study: its directions, the description that an equal search is recognized by, and its ended trials."""

    name: str
    directions: list[str]
    wanted: int
    """The number of trials that the search planned."""
    description: dict[str, str] | None
    """None if it names a path, which another machine does not have: the study is then recognized by its name."""
    positions: dict[str, int] = field(default_factory=dict)
    trials: list[dict[str, Any]] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """Return the study as JSON's types."""
        return asdict(self)

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> "PackedStudy":
        """Return the study that `plain` returned; raises ValueError, continuing "must ...", for one that cannot be."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            study = cls(**plain)
            trials = [trial_from_json(trial, {}) for trial in study.trials]
            directions: Any = study.directions
            optuna.create_study(directions=directions, study_name=study.name).add_trials(trials)
            holds = study._holds_plain_values()
        except BAD_CONTENT as error:
            raise ValueError(f"hold an Optuna study ({error})") from error
        if not holds:
            raise ValueError("hold an Optuna study")
        return study

    def _holds_plain_values(self) -> bool:
        entries = self.description or {}
        texts, numbers = [self.name, *entries, *entries.values()], [self.wanted, *self.positions.values()]
        right_types = all(type(text) is str for text in texts) and all(type(number) is int for number in numbers)
        return right_types and all(key.startswith(STUDY_PREFIX) for key in self.positions)


def named_storage(url: str) -> str:
    """Return the URL of `--storage` independent of the working directory.

    Raises ConfigError for a URL with a password, and for a gRPC URL without host and port.
    """
    without_password("--storage", url)
    return absolute_storage(url)


def read_study(url: str, name: str, wanted: int) -> PackedStudy | None:
    """Return the study `name` in the storage at `url`, with its trials in the order of their start.

    None if there is no such file or study. Raises StoreError for a storage that cannot be read.
    """
    study = find_study(url, name)
    if study is None:
        return None
    ended = [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]
    positions = study._storage.get_study_system_attrs(study._study_id)
    return PackedStudy(
        name,
        [direction.name.lower() for direction in study.directions],
        wanted,
        study.user_attrs.get(DESCRIPTION),
        {key: value for key, value in positions.items() if key.startswith(STUDY_PREFIX)},
        sorted(map(trial_to_json, ended), key=trial_identity),
    )


def require_mergeable(url: str, packed: PackedStudy) -> None:
    """Raise StoreError if the storage at `url` has a study of this name that another search made; writes nothing."""
    study = find_study(url, packed.name)
    if study is None:
        return
    description = study.user_attrs.get(DESCRIPTION)
    same = description is None or packed.description is None or description == packed.description
    if not same or [direction.name.lower() for direction in study.directions] != packed.directions:
        way_out = "Set --storage to another database"
        raise StoreError(f"{url}: its study {packed.name} must be of the same search as the packed one. {way_out}")


def merge_study(url: str, packed: PackedStudy, ids: Mapping[str, str]) -> int:
    """Add the trials of `packed` that the storage at `url` lacks, and return their number.

    Storage and study are created where they do not exist. `ids` are the runs' ids in this store by their packed ids.
    Raises StoreError for a storage that cannot be used.
    """
    with _errors(url), _creation_lock(url):
        directions: Any = packed.directions
        study = optuna.create_study(
            storage=open_storage(url), study_name=packed.name, directions=directions, load_if_exists=True
        )
        if packed.description and DESCRIPTION not in study.user_attrs:
            study.set_user_attr(DESCRIPTION, packed.description)
        known = {trial_identity(trial_to_json(trial)) for trial in study.get_trials(deepcopy=False)}
        new = [trial for trial in packed.trials if trial_identity(trial) not in known]
        for trial in new:
            study.add_trial(trial_from_json(trial, ids))
        _advance(study, packed.positions)
    return len(new)


def trials_table(url: str, name: str) -> str:
    """Return the table of a study's trials, as a search logs it."""
    with _errors(url):
        return str(optuna.load_study(storage=open_storage(url), study_name=name).trials_dataframe().to_csv(index=False))


def find_study(url: str, name: str) -> optuna.Study | None:
    """Return the study `name` in the storage at `url`; None if there is no such file or study. Creates no file.

    Raises StoreError for a storage that cannot be read.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    file = storage_file(url)
    if file is not None and not file.exists():
        return None
    with _errors(url):
        storage = open_storage(url)
        if name not in {study.study_name for study in storage.get_all_studies()}:
            return None
        return optuna.load_study(storage=storage, study_name=name)


@contextmanager
def _errors(url: str) -> Iterator[None]:
    """Turn errors about the storage at `url` into a StoreError of one line."""
    try:
        yield
    except Exception as error:
        unusable: tuple[type[Exception], ...] = (OSError, ImportError, RuntimeError, ValueError)
        if isinstance(error, StoreError) or not isinstance(error, (*unusable, *connection_errors(url))):
            raise
        raise StoreError(f"--storage {url} cannot be used ({first_line(error)}). Set another one") from error


def _creation_lock(url: str) -> AbstractContextManager[object]:
    """The lock under which a search creates a database that is a file."""
    file = storage_file(url)
    if file is None:
        return nullcontext()
    file.parent.mkdir(parents=True, exist_ok=True)
    return locked(file.with_name(f"{file.name}.creation.lock"), "is creating the same study")


def _advance(study: optuna.Study, positions: Mapping[str, int]) -> None:
    """Continue quasi-random sequences after the later of both positions."""
    own = study._storage.get_study_system_attrs(study._study_id)
    for key, position in positions.items():
        if position > own.get(key, -1):
            study._storage.set_study_system_attr(study._study_id, key, position)
