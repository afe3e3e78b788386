"""`hydra/sweeper=grid`: every combination of the overrides, planned as one sweep before any job is launched."""

from collections.abc import Sequence

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn


class GridSweeper(BasicSweeper):
    """Takes the same overrides and `params` as Hydra's basic sweeper."""

    def __init__(self, params: dict[str, str] | None = None) -> None:
        super().__init__(max_batch_size=None, params=params)

    def sweep(self, arguments: list[str]) -> Sequence[JobReturn]:
        """Run every distinct combination of `arguments`."""
        from beans_exp.startup.console import errors_as_messages
        from beans_exp.sweep.grid import refuse_intervals, run_grid  # late, because MLflow is only for sweeps

        assert self.hydra_context is not None and self.launcher is not None and self.config is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        overrides = parser.parse_overrides([*self._parse_config(), *arguments])
        with errors_as_messages():
            refuse_intervals(overrides)
        batches = self.split_arguments(overrides, None)
        return run_grid(self.hydra_context, self.launcher, self.config, batches[0])
