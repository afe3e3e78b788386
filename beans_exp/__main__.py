"""The entry point: Hydra composes `conf/` into a typed `Config`, which is run once or as a sweep."""

import logging
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from beans_exp import schema
from beans_exp.schema.composed import user_overrides
from beans_exp.startup import help as option_help
from beans_exp.startup.command_line import checked_words
from beans_exp.startup.console import deferred_exit, errors_as_messages, exit_status, exit_when_done
from beans_exp.startup.hydra_checks import job_config, single_config, use_config_dir
from beans_exp.startup.imports import preloads, quiet_libraries
from beans_exp.terminal import keep_output_open

log = logging.getLogger("beans_exp")

schema.register()
option_help.register()
quiet_libraries()


@hydra.main(version_base="1.3", config_path=str(schema.CONF), config_name="config")
@preloads("beans_exp.startup.job")
def _run_composed(composed: DictConfig) -> float | list[float]:
    """Run one configuration and return its objective: a single run, or one job of a sweep."""
    from beans_exp.startup.job import count_queued, require_model, run  # only for a valid configuration
    from beans_exp.temporary import own_temporary_folder

    keep_output_open()  # also in a process of a launcher
    use_config_dir(HydraConfig.get())
    overrides = user_overrides(list(HydraConfig.get().overrides.task))
    folder = Path(HydraConfig.get().runtime.output_dir)
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        config = job_config(composed)
        total = f" of {config.sweep.jobs}" if config.sweep.jobs else ""
        log.info("job %s%s: %s", config.sweep.job, total, " ".join(overrides))
        with own_temporary_folder():
            return run(config, overrides, folder)
    with errors_as_messages(), own_temporary_folder():
        config = single_config(composed)
        require_model(config)
        objective = run(config, overrides, folder)
    exit_when_done(exit_status(failed=False, unsent=count_queued(folder) > 0))  # a warning has said what is unsent
    return objective


def _exit_on_signal(number: int, frame: FrameType | None) -> None:
    """Exit as on Ctrl-C, so that the open run ends as killed."""
    sys.exit(128 + number)


def main() -> None:
    """Compose and run the configuration of the command line."""
    keep_output_open()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _exit_on_signal)
    with errors_as_messages(), deferred_exit():
        sys.argv[1:] = checked_words(sys.argv[1:])
        _run_composed()


if __name__ == "__main__":
    main()
