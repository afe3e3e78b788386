"""One driver process for the searches of these tests, which are whole commands with small jobs."""

from collections.abc import Iterator

import pytest

from tests.driver import Driver, driver


@pytest.fixture(scope="session")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    """A driver for tests of the xdist groups `search` and `grid`: its start-up and TensorFlow's import happen once."""
    with driver(tmp_path_factory.mktemp("driver")) as process:
        yield process
