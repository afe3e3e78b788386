"""One trained store for all tests of packing, which only read it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from beans_exp.tracking.store import open_store
from tests.pack.stores import Store, trained_store


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A trained store; tests that use it share the xdist group `packed`."""
    return trained_store(tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="session")
def packed(trained: Store) -> Path:
    """Its runs without their models."""
    return trained.pack("none.zip")


@pytest.fixture(scope="session")
def packed_models(trained: Store) -> Path:
    """Its runs with all models."""
    return trained.pack("all.zip", "--models", "all")


@pytest.fixture(scope="session")
def unpacked(packed: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store that `packed` was unpacked into; tests do not change it."""
    store = Store(tmp_path_factory.mktemp("unpacked"))
    store.unpack(packed)
    return store


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An initialized database, which takes seconds to make."""
    folder = tmp_path_factory.mktemp("database")
    open_store(f"sqlite:///{folder}/mlflow.db", "another")
    return folder / "mlflow.db"


@pytest.fixture
def store(tmp_path: Path, database: Path) -> Callable[[str], Store]:
    """Make stores of a test by name, without runs."""

    def make(name: str) -> Store:
        store = Store(tmp_path / name)
        if not store.folder.exists():
            (store.folder / "mlruns").mkdir(parents=True)
            shutil.copy(database, store.folder / "mlruns")
        return store

    return make


@pytest.fixture
def other(store: Callable[[str], Store]) -> Store:
    """A store to unpack into."""
    return store("other")


@pytest.fixture
def empty(tmp_path: Path) -> Store:
    """A store that does not exist yet."""
    return Store(tmp_path / "empty")
