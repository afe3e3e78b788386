"""Where a study is kept: the addresses that are understood, and the passwords that are not taken."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from beans_exp.errors import ConfigError, StoreError
from beans_exp.hpo.storage import absolute_storage, open_storage
from beans_exp.hpo.study import open_study
from beans_exp.schema.rules import without_password
from tests.hpo.test_study import RANDOM, SEARCH
from tests.servers import free_port


@pytest.fixture(params=["sqlite", "journal", "grpc"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A storage of each kind."""
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
    with open_study(url, "name", SEARCH, RANDOM) as first, open_study(url, "name", SEARCH, RANDOM) as second:
        mine, theirs = first.ask(), second.ask()
        assert [trial.number for trial in first.others] == [theirs.number]
        first.tell(mine, 0.5, TrialState.COMPLETE)
        second.tell(theirs, 0.25, TrialState.COMPLETE)
        assert {trial.number: trial.value for trial in first.counted} == {mine.number: 0.5, theirs.number: 0.25}


def test_files_are_found_from_any_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert absolute_storage("journal:///a/b.log") == f"journal:///{tmp_path}/a/b.log"
    assert absolute_storage("sqlite:///a.db") == f"sqlite:///{tmp_path}/a.db"
    assert absolute_storage("sqlite:////a.db") == "sqlite:////a.db"
    assert absolute_storage("postgresql://me@host/db") == "postgresql://me@host/db"


@pytest.mark.parametrize("url", ["grpc://nowhere", "grpc://:1", "grpc://host:port", "grpc://"])
def test_a_grpc_address_names_host_and_port(url: str) -> None:
    with pytest.raises(ConfigError, match="must be grpc://HOST:PORT"):
        absolute_storage(url)


def test_a_proxy_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("beans_exp.hpo.storage.GRPC_SECONDS", 0.2)
    with pytest.raises(StoreError, match="cannot be used"):
        open_study("grpc://127.0.0.1:9", "name", SEARCH, RANDOM)


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
def test_an_address_without_a_password_is_taken(address: str) -> None:
    without_password("some.key", address)
