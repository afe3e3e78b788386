"""Checks between Hydra and `run`: a composed configuration becomes a valid `Config`."""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from beans_exp.data import require_test, source
from beans_exp.errors import BeansExpError, ConfigError
from beans_exp.fingerprint import fingerprint
from beans_exp.schema import Config, check, reduce, to_config
from beans_exp.schema.precision import resolve_precision
from beans_exp.startup.console import errors_as_messages

SWEEPERS = "hydra_plugins.beans_exp."
EXTRAS = {"ray": "ray", "submitit_local": "slurm", "submitit_slurm": "slurm"}
"""The extra of the project that installs the plugin of each launcher in `conf/`."""


class CheckRun(Callback):
    """Hydra callback: check every rule before anything is written, and name the output folder."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Set `sweep.fingerprint`, which names the output folder."""
        with errors_as_messages(), every_error_ends_the_program():
            _refuse_chdir(config)
            checked = single_config(config)
            described = source(checked.data)
            require_test(checked, described)
            config.sweep.fingerprint = fingerprint(checked, described)
            _make_folder(Path(config.hydra.run.dir))

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Refuse sweepers that do not plan: their jobs would have no parent run, no names and no checks."""
        with errors_as_messages(), every_error_ends_the_program():
            _refuse_chdir(config)
            if not config.hydra.sweeper._target_.startswith(SWEEPERS):
                sweeper = config.hydra.runtime.choices["hydra/sweeper"]
                raise ConfigError(f"hydra/sweeper={sweeper}: must be grid or optuna, which plan the jobs as one sweep")
            _require_launcher(config)


def single_config(composed: DictConfig) -> Config:
    """Return the configuration of a single run; an option without effect is an error."""
    return resolve_precision(check(to_config(composed)))


def job_config(composed: DictConfig) -> Config:
    """Return the configuration of one job of a sweep, reduced as the sweeper planned it."""
    config, _ = reduce(to_config(composed))
    return resolve_precision(config)


def _require_launcher(config: DictConfig) -> None:
    """Refuse a launcher whose plugin is not installed; Hydra would end with a traceback."""
    launcher = config.hydra.runtime.choices["hydra/launcher"]
    plugin = ".".join(config.hydra.launcher._target_.split(".")[:2])
    if launcher in EXTRAS and find_spec(plugin) is None:
        raise ConfigError(f"hydra/launcher={launcher} is not installed: pip install 'beans-exp[{EXTRAS[launcher]}]'")


def _refuse_chdir(config: DictConfig) -> None:
    if config.hydra.job.chdir:
        rule = "false: the store and relative paths belong to the folder where the command is started"
        raise ConfigError(f"hydra.job.chdir=true: must be {rule}")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BeansExpError(f"the output folder {folder} cannot be created ({error}). Set hydra.run.dir") from error


@contextmanager
def every_error_ends_the_program() -> Iterator[None]:
    """Exit after an unexpected exception in a callback, which Hydra would only log as a warning."""
    try:
        yield
    except BeansExpError:
        raise
    except Exception:
        traceback.print_exc()
        sys.exit(1)
