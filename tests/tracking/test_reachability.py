"""Unreachable servers and databases are reported within seconds."""

import socket
import time
from threading import Event

import pytest

from beans_exp import network
from beans_exp.errors import StoreError
from beans_exp.tracking.reachability import is_reachable
from beans_exp.tracking.store import open_store


def test_a_connection_attempt_has_a_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "SECONDS", 0.1)
    answer = Event()
    assert isinstance(network.connection_error(answer.wait), TimeoutError)
    answer.set()
    assert network.connection_error(answer.wait) is None


def test_only_servers_can_be_unreachable() -> None:
    assert not is_reachable("http://127.0.0.1:9")
    assert is_reachable("sqlite:///mlruns/mlflow.db") and is_reachable("postgresql+psycopg2://me@127.0.0.1:9/none")


def test_an_unreachable_server_is_reported_within_seconds() -> None:
    started = time.monotonic()
    with pytest.raises(StoreError, match=r"no MLflow server answers at http://127\.0\.0\.1:9 .*tracking=local"):
        open_store("http://127.0.0.1:9", "fine")
    assert time.monotonic() - started < 10


def test_a_missing_database_driver_is_reported() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        pytest.raises(StoreError, match="needs a driver that is not installed"),
    ):
        open_store(f"mysql+pymysql://127.0.0.1:{server.getsockname()[1]}/none", "fine")


def test_an_unreachable_database_is_reported_within_seconds() -> None:
    started = time.monotonic()
    with pytest.raises(StoreError, match=r"no database answers at 127\.0\.0\.1:9 "):
        open_store("postgresql+psycopg2://me@127.0.0.1:9/none", "fine")
    assert time.monotonic() - started < 10
