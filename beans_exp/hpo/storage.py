"""Optuna's storages by URL: those that Optuna has URLs for, and also a journal file and a gRPC proxy."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from beans_exp.errors import StoreError, first_line
from beans_exp.schema.rules import broken, without_password

if TYPE_CHECKING:
    import optuna

KEY = "hydra.sweeper.storage"
FILES = ("sqlite:///", "journal:///")
"""URLs of a file: three slashes and its path, which is relative unless it begins with a fourth slash."""
GRPC = "grpc://"
LOCK_SECONDS = 120.0
"""How long another program may hold a lock on an SQLite file before a study is given up; SQLite's default is 5."""
GRPC_SECONDS = 5.0
"""How long a gRPC proxy may take to answer the first call."""


def absolute_storage(url: str) -> str:
    """Return `url` independent of the working directory.

    Raises ConfigError for a URL with a password, and for a gRPC URL without host and port.
    """
    without_password(KEY, url)
    for scheme in FILES:
        if url.startswith(scheme):
            return f"{scheme}{Path(url.removeprefix(scheme)).absolute()}"
    if url.startswith(GRPC):
        _host_and_port(url)
    return url


def open_storage(url: str) -> "optuna.storages.BaseStorage":
    """Return the storage at `url`: one of SQLAlchemy's URLs, `journal:///FILE` or `grpc://HOST:PORT`.

    Raises OSError for a gRPC proxy that does not answer.
    """
    import optuna

    if url.startswith("journal:///"):
        from optuna.storages.journal import JournalFileBackend

        return optuna.storages.JournalStorage(JournalFileBackend(url.removeprefix("journal:///")))
    if url.startswith(GRPC):
        host, port = _host_and_port(url)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".* is experimental")  # the user chose it
            proxy = optuna.storages.GrpcStorageProxy(host=host, port=port)
        proxy.wait_server_ready(timeout=GRPC_SECONDS)
        return proxy
    if url.startswith("sqlite:///"):
        patient = {"connect_args": {"timeout": LOCK_SECONDS}}
        return optuna.storages.get_storage(optuna.storages.RDBStorage(url, engine_kwargs=patient))
    return optuna.storages.get_storage(url)


def storage_file(url: str) -> Path | None:
    """Return the file at `url`; None if it is not a file."""
    return next((Path(url.removeprefix(scheme)) for scheme in FILES if url.startswith(scheme)), None)


def connection_errors(url: str) -> tuple[type[Exception], ...]:
    """Return the exceptions that are raised when the storage at `url` no longer answers."""
    import sqlalchemy.exc
    from optuna.exceptions import StorageInternalError

    if not url.startswith(GRPC):
        return sqlalchemy.exc.SQLAlchemyError, StorageInternalError
    import grpc  # type: ignore[import-untyped]

    return (grpc.RpcError,)


@contextmanager
def unusable_storage_as_error(url: str) -> Iterator[None]:
    """Raise StoreError if the storage at `url` cannot be opened in the block."""
    unusable: tuple[type[Exception], ...] = (*connection_errors(url), OSError, ImportError, RuntimeError, ValueError)
    try:
        yield
    except unusable as error:
        raise StoreError(f"{KEY}: {url} cannot be used ({first_line(error)}). Set another one") from error


@contextmanager
def lost_storage_as_error(url: str) -> Iterator[None]:
    """Raise StoreError if the storage at `url` stops answering in the block."""
    try:
        yield
    except connection_errors(url) as error:
        way_out = "Run the same command again to resume"
        raise StoreError(f"{KEY}: {url} stopped answering ({first_line(error)}). {way_out}") from error


def dashboard_address(url: str) -> str | None:
    """Return `url` in the form that `optuna-dashboard` accepts: a journal by its path; None for a proxy."""
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
