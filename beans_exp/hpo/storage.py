"""Optuna's storages by their addresses: those that Optuna has a URL for, and a journal file and a gRPC proxy beside."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from beans_exp.schema.rules import broken, without_password

if TYPE_CHECKING:
    import optuna

KEY = "hydra.sweeper.storage"
FILES = ("sqlite:///", "journal:///")
"""Addresses of a file: three slashes and its path, which is relative unless it begins with a fourth one."""
GRPC = "grpc://"
GRPC_SECONDS = 5.0
"""How long a gRPC proxy may take to answer when it is opened."""


def absolute_storage(url: str) -> str:
    """Return `url` as every process may use it, whatever folder it works in.

    Raises ConfigError for a password in it, and for a gRPC address that names no host and port.
    """
    without_password(KEY, url)
    for scheme in FILES:
        if url.startswith(scheme):
            return f"{scheme}{Path(url.removeprefix(scheme)).absolute()}"
    if url.startswith(GRPC):
        _host_and_port(url)
    return url


def open_storage(url: str) -> "optuna.storages.BaseStorage":
    """Return the storage at `url`: an address of SQLAlchemy's, `journal:///FILE` or `grpc://HOST:PORT`.

    Raises OSError for a gRPC proxy that does not answer.
    """
    import optuna

    if url.startswith("journal:///"):
        from optuna.storages.journal import JournalFileBackend

        return optuna.storages.JournalStorage(JournalFileBackend(url.removeprefix("journal:///")))
    if url.startswith(GRPC):
        host, port = _host_and_port(url)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".* is experimental")  # whoever names it wants it
            proxy = optuna.storages.GrpcStorageProxy(host=host, port=port)
        proxy.wait_server_ready(timeout=GRPC_SECONDS)
        return proxy
    return optuna.storages.get_storage(url)


def storage_file(url: str) -> Path | None:
    """Return the file at `url`; None where it is no file."""
    return next((Path(url.removeprefix(scheme)) for scheme in FILES if url.startswith(scheme)), None)


def connection_errors(url: str) -> tuple[type[Exception], ...]:
    """The errors by which the storage at `url` shows that it does not answer any more."""
    import sqlalchemy.exc
    from optuna.exceptions import StorageInternalError

    if not url.startswith(GRPC):
        return sqlalchemy.exc.SQLAlchemyError, StorageInternalError
    import grpc  # type: ignore[import-untyped]

    return (grpc.RpcError,)


def dashboard_address(url: str) -> str | None:
    """Return `url` as `optuna-dashboard` takes it: a journal by its path; None for a proxy, which it does not know."""
    return None if url.startswith(GRPC) else url.removeprefix("journal:///")


def _host_and_port(url: str) -> tuple[str, int]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or not port:
        raise broken(KEY, url, "grpc://HOST:PORT")
    return host, port
