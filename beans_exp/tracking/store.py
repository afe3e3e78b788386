"""The MLflow store: opened, created once under a lock, and checked before anything is trained."""

import errno
import logging
import os
import re
import shlex
import sqlite3
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from beans_exp.errors import StoreError, StoreUnavailableError, is_text
from beans_exp.files import UNFINISHED, make_once
from beans_exp.locks import locked
from beans_exp.schema import TrackingConfig
from beans_exp.schema.groups import check_store
from beans_exp.tracking.addresses import experiment_path
from beans_exp.tracking.moved_store import ARTIFACTS, follow_store
from beans_exp.tracking.patience import patiently
from beans_exp.tracking.reachability import SQLITE, UNREACHABLE, is_server, reason_of, require_reachable
from beans_exp.tracking.store_errors import explain, passes, store_errors

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

log = logging.getLogger(__name__)

MLRUNS = Path("mlruns")
VARIABLE = "MLFLOW_TRACKING_URI"
"""MLflow's own variable for the address of the store."""
FULL = (errno.ENOSPC, errno.EDQUOT)
"""The errors of a full disk."""


def store_uri(tracking: TrackingConfig) -> str:
    """Return the store's address, absolute.

    It is `tracking.uri`, else the one in `VARIABLE`, else SQLite in `mlruns/` under the working directory. Raises
    ConfigError for an address in the variable that is no store, or has a password.
    """
    uri = tracking.uri or _uri_of_environment() or f"{SQLITE}{MLRUNS / 'mlflow.db'}"
    file = sqlite_file(uri)
    return uri if file is None else f"{SQLITE}{file.resolve()}"


def _uri_of_environment() -> str | None:
    """The store that the user's environment names; it is logged once."""
    uri = os.environ.get(VARIABLE)
    if uri:
        check_store(VARIABLE, uri)
        _log_once(uri)
    return uri


@cache
def _log_once(uri: str) -> None:
    log.warning("the store is %s, from %s", uri, VARIABLE)


def sqlite_file(uri: str) -> Path | None:
    """Return the file of the SQLite store at `uri`; None for a server or another database."""
    return Path(uri.removeprefix(SQLITE)) if uri.startswith(SQLITE) else None


def open_store(uri: str, experiment: str, patience: float = 0.0) -> str:
    """Return the id of `experiment` in the store at `uri`, creating both if they do not exist.

    Several processes may do so at once; `patience` is as in `require_reachable`. Raises StoreUnavailableError for an
    unreachable server and a locked file, StoreError for a store that cannot be reached, written or understood and for a
    deleted experiment.
    """
    require_reachable(uri, patience)
    file = sqlite_file(uri)
    if file is not None:
        return _open_sqlite(file, experiment)
    return _experiment_id(uri, experiment, None)


def open_unless_unavailable(tracking: TrackingConfig, *, offline: bool, was_available: bool = False) -> str | None:
    """Return the id of the experiment as `open_store` does; None, with a warning, if its store is unavailable.

    Raises StoreUnavailableError unless the start may be `offline`, or the store `was_available` to this sweep: then
    answers that are not MLflow's count as unavailable, too. Raises what else `open_store` raises.
    """
    uri, patience = store_uri(tracking), tracking.patience
    try:
        if was_available:  # a server that is being restarted may have a finished run
            return patiently(uri, patience, lambda: open_store(uri, tracking.experiment, patience))
        return open_store(uri, tracking.experiment, patience)
    except StoreError as error:
        if not (was_available and passes(uri, error)) and not (offline and isinstance(error, StoreUnavailableError)):
            raise
        log.warning(UNREACHABLE, uri, reason_of(error))
        return None


def store_exists(uri: str) -> bool:
    """Whether the store at `uri` exists; only a file can be missing. Creates nothing.

    Raises StoreError for a store that cannot be reached or read.
    """
    file = sqlite_file(uri)
    if file is None:
        require_reachable(uri)
        return True
    try:
        _require_usable(file)
        follow_store(file, _lock_file(file))
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"the store {file} cannot be read ({error}). Free it, or set tracking.uri") from error
    return file.exists()


def connect(uri: str) -> "MlflowClient":
    """Return a client for the existing store at `uri`, which also becomes MLflow's default.

    Raises StoreError for a store that does not exist, or cannot be reached or understood.
    """
    import mlflow

    if not store_exists(uri):
        rule = "Go to the folder where the runs were started, or name their store with --tracking-uri"
        raise StoreError(f"there is no store {uri.removeprefix(SQLITE)}. {rule}")
    from beans_exp.tracking.artifact_hosts import select_store

    select_store(uri)
    with store_errors(uri):
        client = mlflow.MlflowClient(uri)
        client.search_experiments(max_results=1)
    return client


def find_experiment(uri: str, experiment: str) -> str | None:
    """Return the id of `experiment` in the store at `uri`; None if either does not exist. Creates nothing.

    Raises StoreError for a store that cannot be reached or read.
    """
    found = _experiment(uri, experiment) if store_exists(uri) else None
    return found.experiment_id if found and found.lifecycle_stage != "deleted" else None


def ui_hint(uri: str, experiment_id: str, sweep_id: str) -> str:
    """Return how to see a sweep of the store at `uri` in a browser: its page, or the command that serves it."""
    if is_server(uri):
        return f"open {uri.rstrip('/')}{experiment_path(experiment_id)}"
    where = [] if uri == store_uri(TrackingConfig()) else ["--tracking-uri", uri]
    return f"show it in a browser with {shlex.join(['python', '-m', 'beans_exp.ui', sweep_id[:8], *where])}"


def create_database(file: Path) -> None:
    """Create a database that no other process opens: several that open a fresh one at once destroy it.

    Its hundreds of steps do not wait for the disk: the caller syncs the whole.
    """
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
    from sqlalchemy import Engine, event

    event.listen(Engine, "connect", _sync_no_step)
    try:
        SqlAlchemyStore(f"{SQLITE}{file}", (file.parent / ARTIFACTS).as_uri()).engine.dispose()
    finally:
        event.remove(Engine, "connect", _sync_no_step)


def _sync_no_step(connection: object, _: object) -> None:
    if isinstance(connection, sqlite3.Connection):
        ((_, _, file),) = connection.execute("PRAGMA database_list")
        if file.endswith(UNFINISHED):
            connection.execute("PRAGMA synchronous = OFF")


def _open_sqlite(file: Path, experiment: str) -> str:
    if reserved := set(str(file)) & set("%?#"):
        raise StoreError(f"the store {file} has {' and '.join(sorted(reserved))} in its path, which MLflow cannot open")
    lock = _lock_file(file)
    artifacts = file.parent / ARTIFACTS / _folder_name(experiment)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        _require_usable(file)
        with store_errors(f"{SQLITE}{file}"):
            make_once(file, create_database, lock)
        follow_store(file, lock)
        with locked(lock, "is creating the experiment"):
            return _experiment_id(f"{SQLITE}{file}", experiment, artifacts)
    except (OSError, sqlite3.Error) as error:
        passing = isinstance(error, sqlite3.OperationalError) or getattr(error, "errno", None) in FULL
        kind = StoreUnavailableError if passing else StoreError
        raise kind(f"the store {file} cannot be written ({error}). Free it, or set tracking.uri") from error


def _lock_file(file: Path) -> Path:
    """The file that earlier versions, which may run at the same time, lock, too."""
    return file.with_suffix(".lock")


def _require_usable(file: Path) -> None:
    """Raise for a file that MLflow would retry for minutes or migrate, before it opens it."""
    if not is_text(str(file)):
        raise StoreError(f"{file}: must be a path in UTF-8. Go to another folder, or set tracking.uri")
    for path in (file.parent, file):
        if path.exists() and not os.access(path, os.R_OK | os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    if file.exists() and not _is_sqlite(file):
        raise StoreError(f"{file} is not an SQLite database. Move it, or set tracking.uri")


def _is_sqlite(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(16) == b"SQLite format 3\0"


def _folder_name(experiment: str) -> str:
    """The name of `experiment` as the name of one folder, whatever characters it contains."""
    return re.sub(r"^\.+|[^\w .-]", "_", experiment)


def _experiment_id(uri: str, name: str, artifacts: Path | None) -> str:
    import mlflow

    experiment = _experiment(uri, name)
    if experiment is None:
        try:
            location = artifacts.as_uri() if artifacts else None
            return mlflow.MlflowClient(uri).create_experiment(name, artifact_location=location)
        except mlflow.MlflowException as error:
            if (experiment := _experiment(uri, name)) is None:  # else another process created it first
                raise StoreError(explain(uri, error)) from error
    if experiment.lifecycle_stage == "deleted":
        raise StoreError(f"the experiment {name} was deleted in MLflow. Restore it, or set tracking.experiment")
    return experiment.experiment_id


def _experiment(uri: str, name: str) -> "Experiment | None":
    import mlflow

    from beans_exp.tracking.artifact_hosts import require_own_host, select_store

    select_store(uri)
    with store_errors(uri):
        found = mlflow.MlflowClient(uri).get_experiment_by_name(name)
    if found is not None:
        require_own_host(found.artifact_location, uri)
    return found
