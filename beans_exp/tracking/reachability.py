"""Whether a store is reachable, decided within seconds: MLflow's client would retry for minutes."""

import os
import socket
import ssl
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import urlopen

from beans_exp.errors import ServerUnreachableError, StoreError, first_line
from beans_exp.network import SECONDS, connection_error

SQLITE = "sqlite:///"
PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
"""The default ports of databases."""
UNREACHABLE = "%s is unreachable (%s); metrics are saved locally and will be sent later"
"""The warning about a server: its address and the reason."""


def is_server(uri: str) -> bool:
    """Whether the store at `uri` is an MLflow server."""
    return uri.startswith(("http://", "https://"))


def is_reachable(uri: str) -> bool:
    """Whether a server answers at `uri`; True for files and databases, which have no message queue.

    Raises StoreError for a server that answers with an error.
    """
    try:
        if is_server(uri):
            require_reachable(uri)
    except ServerUnreachableError:
        return False
    return True


def require_reachable(uri: str) -> None:
    """Raise unless the server or database at `uri` answers within `network.SECONDS`; files always do.

    Raises ServerUnreachableError for a server that does not answer, and StoreError for one that is no MLflow server or
    has an untrusted certificate, and for a database that does not answer.
    """
    if is_server(uri):
        _require_server(uri)
    elif not uri.startswith(SQLITE):
        _require_database(uri)


def reason_of(error: BaseException) -> str:
    """Return why a store raised `error`, on one line: the cause of a StoreError, without its way out."""
    cause = error.__cause__ if isinstance(error, StoreError) and error.__cause__ else error
    reason = getattr(cause, "reason", cause)
    return first_line(reason if isinstance(reason, BaseException) else cause)


def _require_server(uri: str) -> None:
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # 7 would take minutes, and messages are queued
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    address = f"{uri.rstrip('/')}/health"
    error = connection_error(lambda: urlopen(address, timeout=SECONDS, context=_ssl_context(uri)).close())
    if isinstance(error, HTTPError):
        if error.code in (401, 403):  # reachable; MLflow's client sends the credentials
            return
        raise StoreError(f"{uri} answers {error.code} {error.reason}: is it an MLflow server?") from error
    if isinstance(getattr(error, "reason", None), ssl.SSLCertVerificationError):
        rule = "Set MLFLOW_TRACKING_SERVER_CERT_PATH to the certificate that signed it"
        raise StoreError(f"the certificate of {uri} is not trusted. {rule}") from error
    if error is not None:
        rule = "Start one as the README shows, use tracking=local, or save metrics locally with tracking.offline=true"
        raise ServerUnreachableError(f"no MLflow server answers at {uri} ({error}). {rule}") from error


def _ssl_context(uri: str) -> ssl.SSLContext | None:
    """The certificates that MLflow's client trusts, by the same variables; None for plain HTTP."""
    if not uri.startswith("https://"):
        return None
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
