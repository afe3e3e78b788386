"""The MLflow store: found, created once under a lock, and checked before anything is trained."""

import errno
import http.client
import logging
import os
import re
import shlex
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from filelock import FileLock

from beans_exp.errors import ServerUnreachableError, StoreError
from beans_exp.schema import TrackingConfig

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

log = logging.getLogger(__name__)

MLRUNS = Path("mlruns")
PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
"""Where databases listen unless told."""
UI_COMMAND = (
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false MLFLOW_DISABLE_TELEMETRY=true "
    "mlflow server --workers 1 --backend-store-uri {uri} --default-artifact-root {artifacts}"
)
"""One worker, no job runner: 2 processes instead of 15."""


def store_uri(tracking: TrackingConfig) -> str:
    """Return the store's address, absolute: `tracking.uri`, else SQLite in `mlruns/` under the working directory."""
    if tracking.uri is None:
        return f"sqlite:///{MLRUNS.resolve() / 'mlflow.db'}"
    if tracking.uri.startswith("sqlite:///"):
        return f"sqlite:///{Path(tracking.uri.removeprefix('sqlite:///')).resolve()}"
    return tracking.uri


def is_server(uri: str) -> bool:
    """Whether the store at `uri` is reached over HTTP."""
    return uri.startswith(("http://", "https://"))


def open_store(uri: str, experiment: str) -> str:
    """Return the id of `experiment` in the store at `uri`; both are created where they do not exist yet.

    Safe when several processes do it at once. Raises StoreError for a store that cannot be reached, written or
    understood, and for an experiment that was deleted.
    """
    if uri.startswith("sqlite:///"):
        return _open_sqlite(Path(uri.removeprefix("sqlite:///")), experiment)
    if is_server(uri):
        _require_server(uri)
    else:
        _require_database(uri)
    return _experiment_id(uri, experiment, None)


def open_unless_unreachable(tracking: TrackingConfig, *, may_be_unreachable: bool) -> str | None:
    """Return the id of the experiment; None, with a warning, where its server is away and that is allowed.

    Raises what `open_store` does.
    """
    try:
        return open_store(store_uri(tracking), tracking.experiment)
    except ServerUnreachableError as error:
        if not may_be_unreachable:
            raise
        log.warning("%s; what is logged is kept on disk until then", str(error).partition(". ")[0])
        return None


def store_exists(uri: str) -> bool:
    """Whether the store at `uri` is there; a file alone can be missing, and nothing is created.

    Raises StoreError for a store that cannot be reached or read.
    """
    if uri.startswith("sqlite:///"):
        file = Path(uri.removeprefix("sqlite:///"))
        try:
            _require_usable(file)
        except OSError as error:
            raise StoreError(f"the store {file} cannot be read ({error}). Free it, or set tracking.uri") from error
        return file.exists()
    if is_server(uri):
        _require_server(uri)
    else:
        _require_database(uri)
    return True


def connect(uri: str) -> "MlflowClient":
    """Return a client for the store at `uri`, which also becomes MLflow's own; it is never created.

    Raises StoreError for a store that is not there, or cannot be reached or understood.
    """
    import mlflow

    if not store_exists(uri):
        rule = "Go to the folder where the runs were started, or name their store with --tracking-uri"
        raise StoreError(f"there is no store {uri.removeprefix('sqlite:///')}. {rule}")
    mlflow.set_tracking_uri(uri)
    with store_errors(uri):
        client = mlflow.MlflowClient(uri)
        client.search_experiments(max_results=1)
    return client


def find_experiment(uri: str, experiment: str) -> str | None:
    """Return the id of `experiment` in the store at `uri`, or None where one of the two is not there; create nothing.

    Raises StoreError for a store that cannot be reached or read.
    """
    found = _experiment(uri, experiment) if store_exists(uri) else None
    return found.experiment_id if found and found.lifecycle_stage != "deleted" else None


@contextmanager
def store_errors(uri: str) -> Iterator[None]:
    """Turn what MLflow raises of the store at `uri`, for a wrong filter too, into a StoreError with one line."""
    import alembic.util
    import mlflow
    import sqlalchemy.exc

    try:
        yield
    except ImportError as error:
        raise StoreError(f"the store {uri} needs a driver that is not installed: pip install {error.name}") from error
    except (mlflow.MlflowException, sqlalchemy.exc.SQLAlchemyError, alembic.util.CommandError) as error:
        if getattr(error, "error_code", None) == "INVALID_PARAMETER_VALUE":
            raise StoreError(f"the store {uri} answers: {str(error).strip().splitlines()[0][:300]}") from error
        raise StoreError(_unreadable(uri, error)) from error


def _open_sqlite(file: Path, experiment: str) -> str:
    if unfit := set(str(file)) & set("%?#"):
        raise StoreError(
            f"the store {file} has {' and '.join(sorted(unfit))} in its path, which MLflow takes for its own"
        )
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        _require_usable(file)
        with FileLock(file.with_suffix(".lock")):
            if not file.exists():
                _create_sqlite(file)
            return _experiment_id(f"sqlite:///{file}", experiment, file.parent / "artifacts" / _folder_name(experiment))
    except OSError as error:
        raise StoreError(f"the store {file} cannot be written ({error}). Free it, or set tracking.uri") from error


def _require_usable(file: Path) -> None:
    """Raise where MLflow would try for minutes, or change an old store: before it opens `file`."""
    for place in (file.parent, file):
        if place.exists() and not os.access(place, os.R_OK | os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(place))
    if file.exists() and not _is_sqlite(file):
        raise StoreError(f"{file} is not an SQLite database. Move it away, or set tracking.uri")


def _is_sqlite(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(16) == b"SQLite format 3\0"


def _create_sqlite(file: Path) -> None:
    """Create the database under a temporary name: several processes that open a fresh one at once destroy it."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
    from sqlalchemy.exc import SQLAlchemyError

    unfinished = file.with_suffix(".unfinished")
    unfinished.unlink(missing_ok=True)
    try:
        store = SqlAlchemyStore(f"sqlite:///{unfinished}", (file.parent / "artifacts").as_uri())
    except SQLAlchemyError as error:
        raise StoreError(_unreadable(f"sqlite:///{file}", error)) from error
    store.engine.dispose()
    unfinished.rename(file)


def _folder_name(experiment: str) -> str:
    """The name of `experiment` as one folder below the artifacts, whatever it is made of."""
    return re.sub(r"^\.+|[^\w .-]", "_", experiment)


def answers(uri: str) -> bool:
    """Whether the store at `uri` can be used now; what is no server always can."""
    try:
        if is_server(uri):
            _require_server(uri)
    except ServerUnreachableError:
        return False
    return True


def _require_server(uri: str) -> None:
    """Raise ServerUnreachableError unless a server, with a trusted certificate, answers at `uri` within seconds."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # 7 by default: minutes; what is to be sent is kept
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    try:
        own = os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH") or os.environ.get("REQUESTS_CA_BUNDLE")
        trusted = ssl.create_default_context(cafile=own) if uri.startswith("https://") else None
        if trusted and os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("true", "1"):
            trusted.check_hostname, trusted.verify_mode = False, ssl.CERT_NONE
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=5, context=trusted):
            pass
    except urllib.error.HTTPError as error:
        if error.code not in (401, 403):  # the server is there; MLflow's client carries the credentials
            raise StoreError(f"{uri} answers {error.code} {error.reason}: is it an MLflow server?") from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        if isinstance(getattr(error, "reason", None), ssl.SSLCertVerificationError):
            rule = "Name the certificate that signed it in MLFLOW_TRACKING_SERVER_CERT_PATH"
            raise StoreError(f"the certificate of {uri} is not trusted. {rule}") from error
        rule = "Start one as the README shows, use tracking=local, or keep what is logged with tracking.offline=true"
        raise ServerUnreachableError(f"no MLflow server answers at {uri} ({error}). {rule}") from error


def _require_database(uri: str) -> None:
    """Raise StoreError where nothing answers at a database's address: MLflow would try for two minutes."""
    parts = urlsplit(uri)
    port = parts.port or next((port for kind, port in PORTS.items() if uri.startswith(kind)), None)
    if parts.hostname is None or port is None:
        return  # by a socket's file, or as the driver knows
    try:
        socket.create_connection((parts.hostname, port), timeout=5).close()
    except OSError as error:
        rule = "Start it, or set tracking.uri"
        raise StoreError(f"no database answers at {parts.hostname}:{port} ({error}). {rule}") from error


def _experiment_id(uri: str, name: str, artifacts: Path | None) -> str:
    import mlflow

    experiment = _experiment(uri, name)
    if experiment is None:
        try:
            location = artifacts.as_uri() if artifacts else None
            return mlflow.MlflowClient(uri).create_experiment(name, artifact_location=location)
        except mlflow.MlflowException as error:
            if (experiment := _experiment(uri, name)) is None:  # else another process was faster
                raise StoreError(_unreadable(uri, error)) from error
    if experiment.lifecycle_stage == "deleted":
        raise StoreError(f"the experiment {name} was deleted in MLflow. Restore it, or set tracking.experiment")
    return experiment.experiment_id


def _experiment(uri: str, name: str) -> "Experiment | None":
    import mlflow

    mlflow.set_tracking_uri(uri)
    with store_errors(uri):
        return mlflow.MlflowClient(uri).get_experiment_by_name(name)


def _unreadable(uri: str, error: Exception) -> str:
    status = getattr(error, "get_http_status_code", lambda: None)()
    user = os.environ.get("MLFLOW_TRACKING_USERNAME", "nobody")
    if status == 401:
        rule = "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or keep them in ~/.mlflow/credentials"
        return f"the server {uri} does not take the password of {user}. {rule}"
    if status == 403:
        return f"the server {uri} does not let {user} do that. Ask its administrator, or set tracking.experiment"
    reason = str(error).strip().splitlines()[0]
    place = uri.removeprefix("sqlite:///")
    if "out-of-date database schema" in reason or "locate revision" in reason:
        reason = f"another version of MLflow wrote it ({reason.split('. ')[0]}). Install that version"
    return f"the store {place} cannot be used: {reason}, or set tracking.uri"


def ui_hint(uri: str, experiment_id: str) -> str:
    """Return how to see an experiment of the store at `uri` in a browser: its page, and the command that serves it."""
    page = f"#/experiments/{experiment_id}/runs?workflowType=machine_learning"
    if is_server(uri):
        return f"open {uri.rstrip('/')}/{page}"
    artifacts = Path(uri.removeprefix("sqlite:///")).parent / "artifacts"
    command = UI_COMMAND.format(uri=shlex.quote(uri), artifacts=shlex.quote(str(artifacts)))
    return f"open http://127.0.0.1:5000/{page} after\n{command}"
