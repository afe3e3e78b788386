"""Unreachable servers and databases are reported within seconds."""

import socket
import time

import pytest

from beans_exp.errors import StoreError
from beans_exp.tracking.store import open_store


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
