"""Which artifact addresses are opened: files, cloud buckets, and the host of the store itself.

Artifact addresses come from the store. On a shared server others write there, too, and MLflow's client would send the
user's password for the server to any host that an address names.
"""

import os
from collections.abc import Callable
from functools import cache
from typing import Any
from urllib.parse import SplitResult, urlsplit

import mlflow
from mlflow.store.artifact.artifact_repository_registry import _artifact_repository_registry as registry

from beans_exp.errors import StoreError
from beans_exp.tracking.reachability import is_server

SCHEMES = ("http", "https", "mlflow-artifacts", "ftp", "sftp", "hdfs", "viewfs")
"""Addresses that name a host."""
TRACKING_URI = "MLFLOW_TRACKING_URI"
PORTS = {"http": 80, "https": 443}


def select_store(uri: str) -> None:
    """Make `uri` MLflow's default store, whose artifacts are opened on its own host only.

    MLflow also writes it to the environment, where it would look like the user's choice of a store.
    """
    before = os.environ.get(TRACKING_URI)
    _guard_artifacts()
    mlflow.set_tracking_uri(uri)
    os.environ.pop(TRACKING_URI, None)
    os.environ.update({TRACKING_URI: before} if before is not None else {})


@cache
def _guard_artifacts() -> None:
    """Make MLflow refuse, in this process, artifacts on other hosts than the store's."""
    for scheme in SCHEMES:
        registry.register(scheme, _guarded(registry.get_registered_artifact_repositories()[scheme]))


def require_own_host(address: str, store: str) -> None:
    """Raise StoreError for an artifact address on another host, or another port, than the store at `store`."""
    parts, own = urlsplit(address), urlsplit(store)
    if parts.scheme not in SCHEMES or not parts.netloc:
        return
    if not (is_server(store) and _place(parts, own) == _place(own, own)):
        host = own.netloc if is_server(store) else "this machine"
        rule = f"on {host}, like its store: nothing is read from, or sent to, a host that an entry of the store names"
        raise StoreError(f"the artifact location {address}: must be {rule}. Set tracking.experiment to another one")


def _place(parts: SplitResult, own: SplitResult) -> tuple[str, str | None, int | None]:
    """Scheme, host and port of an address; one of MLflow's proxied artifacts is reached like its server."""
    scheme = own.scheme if parts.scheme == "mlflow-artifacts" else parts.scheme
    return scheme, parts.hostname, parts.port or PORTS.get(scheme)


def _guarded(make: Callable[..., Any]) -> Callable[..., Any]:
    def open_on_own_host(address: str, *more: Any, **named: Any) -> Any:
        require_own_host(address, named.get("tracking_uri") or mlflow.get_tracking_uri())
        return make(address, *more, **named)

    return open_on_own_host
