"""Whether a store is reachable, decided within seconds: MLflow's client would retry for minutes."""

import logging
import os
import socket
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from beans_exp.errors import ServerUnreachableError, StoreError, StoreUnavailableError, first_line
from beans_exp.network import SECONDS, connection_error

if TYPE_CHECKING:
    import ssl

log = logging.getLogger(__name__)

SQLITE = "sqlite:///"
PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
"""The default ports of databases."""
UNREACHABLE = "%s is unreachable (%s); metrics are saved locally and will be sent later"
"""The warning about a store: its address and the reason."""


def is_server(uri: str) -> bool:
    """Whether the store at `uri` is an MLflow server."""
    return uri.startswith(("http://", "https://"))


def is_reachable(uri: str, patience: float = 0.0) -> bool:
    """Whether the store at `uri`, which could be used before, can be used now; waits as `require_reachable` does.

    A server that answers otherwise than MLflow does, such as a proxy in front of it, is unreachable; databases on other
    machines have no message queue, and count as reachable.
    """
    try:
        if is_server(uri) or uri.startswith(SQLITE):
            require_reachable(uri, patience)
    except StoreError:
        return False
    return True


def require_reachable(uri: str, patience: float = 0.0) -> None:
    """Raise unless the server or database at `uri` answers within `network.SECONDS`.

    A slow server that accepts connections, and a locked SQLite file, have `patience` seconds, with a log message.
    Raises ServerUnreachableError for a server that does not answer, StoreUnavailableError for a locked file, and
    StoreError for a server that is not MLflow's or whose certificate is not trusted, and for a database that does not
    answer.
    """
    if is_server(uri):
        _require_server(uri, patience)
    elif uri.startswith(SQLITE):
        _require_unlocked(Path(uri.removeprefix(SQLITE)), patience)
    else:
        _require_database(uri)


def reason_of(error: BaseException) -> str:
    """Return why a store raised `error`, on one line: the cause of a StoreError, without its way out."""
    cause = error.__cause__ if isinstance(error, StoreError) and error.__cause__ else error
    cause = driver_error(cause) or cause
    reason = getattr(cause, "reason", cause)
    return first_line(reason if isinstance(reason, BaseException) else cause)


def driver_error(error: BaseException) -> BaseException | None:
    """Return the error of the database's driver that SQLAlchemy, and then MLflow, have wrapped in longer ones."""
    found = getattr(error, "orig", None) or getattr(error.__cause__, "orig", None)
    return found if isinstance(found, BaseException) else None


def _require_server(uri: str, patience: float) -> None:
    from ssl import SSLCertVerificationError
    from urllib.error import HTTPError

    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # 7 would take minutes, and messages are queued
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    error = _answer(uri, SECONDS)
    if isinstance(error, _SlowServerError) and patience > SECONDS:
        log.warning("%s has not answered for %g seconds; waiting up to %g (tracking.patience)", uri, SECONDS, patience)
        error = _answer(uri, patience)
    if isinstance(error, HTTPError):
        if error.code in (401, 403):  # reachable; MLflow's client sends the credentials
            return
        passing = error.code >= 500 or error.code in (408, 429)
        kind = ServerUnreachableError if passing else StoreError
        raise kind(f"{uri} answers {error.code} {error.reason}: is it an MLflow server?") from error
    if isinstance(getattr(error, "reason", None), SSLCertVerificationError):
        rule = "Set MLFLOW_TRACKING_SERVER_CERT_PATH to the certificate that signed it"
        raise StoreError(f"the certificate of {uri} is not trusted. {rule}") from error
    if error is not None:
        rule = "Start one as the README shows, use tracking=local, or save metrics locally with tracking.offline=true"
        raise ServerUnreachableError(f"no MLflow server answers at {uri} ({error}). {rule}") from error


class _SlowServerError(Exception):
    """A server that accepted the connection, but sent no answer in time."""


def _answer(uri: str, seconds: float) -> Exception | None:
    """Return the error of a request for the health of the server at `uri`, which may take `seconds`."""
    from urllib.request import urlopen  # with TLS, a tenth of a second, which few commands need

    address = f"{uri.rstrip('/')}/health"

    def ask() -> None:
        try:
            urlopen(address, timeout=seconds, context=_ssl_context(uri)).close()
        except TimeoutError as error:  # of the answer; urllib wraps the one of the connection
            raise _SlowServerError(f"no answer within {seconds:g} seconds") from error

    return connection_error(ask, seconds + 1)


def _require_unlocked(file: Path, patience: float) -> None:
    """Wait until the SQLite `file` can be written; raise StoreUnavailableError after `patience` seconds."""
    if not file.is_file() or _is_unlocked(file, SECONDS):
        return
    if patience > SECONDS:
        log.warning("another program holds a lock on %s; waiting up to %g seconds (tracking.patience)", file, patience)
    if not _is_unlocked(file, max(0.0, patience - SECONDS)):
        rule = "End that program, wait longer with tracking.patience, or set tracking.uri"
        raise StoreUnavailableError(f"the store {file} cannot be used: another program holds a lock on it. {rule}")


def _is_unlocked(file: Path, seconds: float) -> bool:
    """Whether `file` can be locked within `seconds`; True for one that cannot be opened, which MLflow reports."""
    try:
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=rw", seconds, uri=True, isolation_level=None)) as database:
            database.execute("BEGIN IMMEDIATE")
            database.execute("ROLLBACK")
    except sqlite3.Error as error:
        return "locked" not in str(error)
    return True


def _ssl_context(uri: str) -> "ssl.SSLContext | None":
    """The certificates that MLflow's client trusts, by the same variables; None for plain HTTP."""
    if not uri.startswith("https://"):
        return None
    import ssl

    own = os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH") or os.environ.get("REQUESTS_CA_BUNDLE")
    context = ssl.create_default_context(cafile=own)
    if os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("true", "1"):
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _require_database(uri: str) -> None:
    parts = urlsplit(uri)
    port = parts.port or next((port for kind, port in PORTS.items() if uri.startswith(kind)), None)
    if parts.hostname is None or port is None:
        return  # a socket file, or an address that only the driver understands
    address = (parts.hostname, port)
    if error := connection_error(lambda: socket.create_connection(address, timeout=SECONDS).close()):
        rule = "Start it, or set tracking.uri"
        raise StoreError(f"no database answers at {parts.hostname}:{port} ({error}). {rule}") from error
