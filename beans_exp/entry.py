"""Between Hydra and `run`: a composed configuration becomes one that can be run, and errors become messages."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from beans_exp.data import source
from beans_exp.errors import BeansExpError, ConfigError
from beans_exp.fingerprint import fingerprint
from beans_exp.precision import resolve_precision
from beans_exp.schema import Config, check, reduce, to_config

SWEEPERS = "hydra_plugins.beans_exp."
SWEEPER_KEYS = ("sweep.", "tracking.uri=", "features.blocks=")
"""Overrides that a sweeper adds; they are no choice of the user's."""


class CheckRun(Callback):
    """Hydra's callback for a single run: every rule is checked before anything is written, and the folder is named."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Set `sweep.fingerprint`, which names the output folder."""
        with errors_as_messages():
            checked = single_config(config)
            config.sweep.fingerprint = fingerprint(checked, source(checked.data))

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Refuse a sweeper that does not plan: its jobs would have no parent, no names and no rules."""
        with errors_as_messages():
            if not config.hydra.sweeper._target_.startswith(SWEEPERS):
                sweeper = config.hydra.runtime.choices["hydra/sweeper"]
                raise ConfigError(f"hydra/sweeper={sweeper}: must be grid, which plans the jobs as one sweep")


def single_config(composed: DictConfig) -> Config:
    """The configuration of a single run; an option that cannot act is an error."""
    return resolve_precision(check(to_config(composed)))


def job_config(composed: DictConfig) -> Config:
    """The configuration of one job of a sweep: reduced to what it means, as the sweeper planned it."""
    config, _ = reduce(to_config(composed))
    return resolve_precision(config)


def chosen(overrides: list[str]) -> list[str]:
    """The overrides that the user chose, without what a sweeper adds."""
    return [word for word in overrides if not word.startswith(SWEEPER_KEYS)]


@contextmanager
def errors_as_messages() -> Iterator[None]:
    """End the program with a message, not a traceback, for what the user can mend, and for an interrupt."""
    try:
        yield
    except BeansExpError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
