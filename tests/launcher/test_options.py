"""The options of the isolated launcher."""

from typing import Any

import pytest

from beans_exp.errors import ConfigError
from beans_exp.launcher.options import Options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_jobs": 0}, "hydra.launcher.n_jobs=0: must be 1 to"),
        ({"n_jobs": 1000}, "the cores of this machine"),
        ({"timeout": 0}, "hydra.launcher.timeout=0: must be above 0"),
        ({"memory_gb": -1}, "hydra.launcher.memory_gb=-1"),
        ({"on_error": "halt"}, "must be one of continue, stop"),
        ({"retries": -1}, "hydra.launcher.retries=-1"),
        ({"on_error": "stop", "max_failures": 2}, "null with on_error=stop"),
    ],
)
def test_invalid_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Options(**options)


@pytest.mark.parametrize(
    ("options", "allowed"), [({}, float("inf")), ({"max_failures": 2}, 2), ({"on_error": "stop"}, 0)]
)
def test_the_options_limit_the_number_of_failures(options: dict[str, Any], allowed: float) -> None:
    assert Options(**options).allowed_failures == allowed
