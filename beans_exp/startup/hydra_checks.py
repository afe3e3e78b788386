"""Checks between Hydra and `run`: a composed configuration becomes a valid `Config`."""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hydra.conf import HydraConf
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from beans_exp.data import require_test, source
from beans_exp.errors import BeansExpError, ConfigError, is_text
from beans_exp.fingerprint import fingerprint
from beans_exp.schema import Config, check, reduce, to_config
from beans_exp.schema.precision import resolve_precision
from beans_exp.schema.python_source import use_folder
from beans_exp.startup.console import errors_as_messages
from beans_exp.tracking.store import store_uri

SWEEPERS = "hydra_plugins.beans_exp."
GRID = f"{SWEEPERS}grid.GridSweeper"
SEARCH = "hydra/sweeper=optuna"
EXTRAS = {"ray": "ray", "submitit_local": "slurm", "submitit_slurm": "slurm"}
"""The extra of the project that installs the plugin of each launcher in `conf/`."""


class CheckRun(Callback):
    """Hydra callback: check every rule before anything is written, and name the output folder."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Set `sweep.fingerprint`, which names the output folder."""
        with errors_as_messages(), every_error_ends_the_program():
            use_config_dir(config.hydra)
            _require_place(config)
            checked = single_config(config)
            store_uri(checked.tracking)  # the environment may name it
            described = source(checked.data)
            require_test(checked, described)
            config.sweep.fingerprint = fingerprint(checked, described)
            _make_folder(Path(config.hydra.run.dir))

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Refuse sweepers that do not plan: their jobs would have no parent run, no names and no checks."""
        with errors_as_messages(), every_error_ends_the_program():
            use_config_dir(config.hydra)
            _require_place(config)
            if not config.hydra.sweeper._target_.startswith(SWEEPERS):
                sweeper = config.hydra.runtime.choices["hydra/sweeper"]
                raise ConfigError(f"hydra/sweeper={sweeper}: must be grid or optuna, which plan the jobs as one sweep")
            _require_searching(config)
            _require_folder_per_job(config)
            _require_launcher(config)


def use_config_dir(hydra: DictConfig | HydraConf) -> None:
    """Put the folder of `--config-dir` on Python's path; `hydra` is Hydra's part of a configuration."""
    given = (source.path for source in hydra.runtime.config_sources if source.provider == "command-line")
    use_folder(next(map(Path, given), None))


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


def _require_searching(config: DictConfig) -> None:
    """Refuse the keys of a search where the sweeper is a grid; Hydra would end with a traceback."""
    others = [key for key in config.hydra.sweeper if key not in ("_target_", "params")]
    if config.hydra.sweeper._target_ == GRID and others:
        raise ConfigError(f"hydra.sweeper.{others[0]}: must be left out in a grid. For a search, set {SEARCH}")


def _require_folder_per_job(config: DictConfig) -> None:
    """Refuse folders that several jobs would share, with their checkpoints and logs."""
    subdir = OmegaConf.to_container(config.hydra.sweep, resolve=False)["subdir"]  # type: ignore[call-overload, index]
    if "${sweep.fingerprint}" not in str(subdir):
        rule = "a name with ${sweep.fingerprint}, or the jobs would share a folder. Leave it out"
        raise ConfigError(f"hydra.sweep.subdir={subdir}: must be {rule}")


def _require_place(config: DictConfig) -> None:
    """Refuse a working directory that cannot be recorded, and one that jobs would leave."""
    if not is_text(str(Path.cwd())):
        raise BeansExpError(f"{Path.cwd()}: must be a folder whose path is UTF-8: the runs record it. Use another one")
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
