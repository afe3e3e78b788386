"""The storage of a study: URLs that are supported, storages that are lost, and passwords, which are refused."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
import pytest
import sqlalchemy.exc
from optuna.trial import TrialState

from beans_exp.errors import ConfigError, StoreError
from beans_exp.hpo.storage import absolute_storage, lost_storage_as_error, open_storage
from beans_exp.schema.rules import without_password
from tests.hpo.studies import open_test_study
from tests.servers import free_port


@pytest.fixture(params=["sqlite", "journal", "grpc"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a storage of each kind."""
    if request.param == "grpc":
        with _proxy() as address:
            yield address
    else:
        yield absolute_storage(f"{request.param}:///shared/study")


@contextmanager
def _proxy() -> Iterator[str]:
    """Optuna's own gRPC proxy, in a thread, on a journal."""
    port = free_port()
    Path("shared").mkdir()
    served = open_storage(absolute_storage("journal:///shared/served"))
    serve = optuna.storages.run_grpc_proxy_server
    threading.Thread(target=serve, args=(served,), kwargs={"host": "127.0.0.1", "port": port}, daemon=True).start()
    yield f"grpc://127.0.0.1:{port}"


@pytest.mark.filterwarnings("ignore:.*run_grpc_proxy_server is experimental")
def test_two_processes_share_a_study(url: str) -> None:
    with open_test_study(url) as first, open_test_study(url) as second:
        mine, theirs = first.ask(), second.ask()
        assert [trial.number for trial in first.leases.others] == [theirs.number]
        first.tell(mine, 0.5, TrialState.COMPLETE)
        second.tell(theirs, 0.25, TrialState.COMPLETE)
        assert {trial.number: trial.value for trial in first.counted} == {mine.number: 0.5, theirs.number: 0.25}


def test_the_url_of_a_file_becomes_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert absolute_storage("journal:///a/b.log") == f"journal:///{tmp_path}/a/b.log"
    assert absolute_storage("sqlite:///a.db") == f"sqlite:///{tmp_path}/a.db"
    assert absolute_storage("sqlite:////a.db") == "sqlite:////a.db"
    assert absolute_storage("postgresql://me@host/db") == "postgresql://me@host/db"


@pytest.mark.parametrize("url", ["grpc://nowhere", "grpc://:1", "grpc://host:port", "grpc://"])
def test_a_grpc_url_needs_host_and_port(url: str) -> None:
    with pytest.raises(ConfigError, match="must be grpc://HOST:PORT"):
        absolute_storage(url)


def test_an_unreachable_proxy_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("beans_exp.hpo.storage.GRPC_SECONDS", 0.2)
    with pytest.raises(StoreError, match="cannot be used"):
        open_test_study("grpc://127.0.0.1:9")


def test_a_storage_that_is_lost_is_named() -> None:
    with (
        pytest.raises(StoreError, match=r"stopped answering .*Run the same command again"),
        lost_storage_as_error("sqlite:///a.db"),
    ):
        raise sqlalchemy.exc.OperationalError("select", {}, Exception("server closed the connection"))


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://me:hush@host/db",
        "https://me:hush@host",
        "postgresql://me@host/db?password=hush",
        "a://b,c://d:hush@e",
    ],
)
def test_a_password_is_refused_without_being_shown(address: str) -> None:
    with pytest.raises(ConfigError) as caught:
        without_password("some.key", address)
    assert "hush" not in str(caught.value) and "some.key" in str(caught.value)


@pytest.mark.parametrize("address", ["http://host:5000", "postgresql+psycopg2://me@host:5432/db", "sqlite:////a:b@c"])
def test_an_address_without_a_password_is_accepted(address: str) -> None:
    without_password("some.key", address)
