"""`hydra/sweeper=optuna`: a search by Optuna, through any of Hydra's launchers."""

from collections.abc import Sequence
from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf


class OptunaSweeper(Sweeper):
    """Takes the keys of `conf/hydra/sweeper/optuna.yaml`, most of them those of `hydra-optuna-sweeper`."""

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.hydra_context: HydraContext | None = None
        self.launcher: Launcher | None = None
        self.config: DictConfig | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep Hydra's objects for the search, and instantiate the launcher."""
        self.hydra_context = hydra_context
        self.config = config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Sequence[Any]:
        """Run the search described by `arguments` and `hydra.sweeper.params`."""
        from beans_exp.sweep.search import run_search  # Optuna and MLflow are imported when a search starts

        assert self.hydra_context is not None and self.launcher is not None and self.config is not None
        options = {
            key: OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
            for key, value in self.options.items()
        }
        run_search(self.hydra_context, self.launcher, self.config, options, arguments)
        return []
