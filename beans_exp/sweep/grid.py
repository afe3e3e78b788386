"""A grid from its overrides to its table: compose, plan, launch."""

import copy
import sys
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from beans_exp.errors import ConfigError
from beans_exp.schema import Config, to_config
from beans_exp.startup.console import errors_as_messages, exit_when_done
from beans_exp.sweep.one_sweep import compose_point
from beans_exp.sweep.plan import GridPoint, Plan, plan_grid

PLAIN_KEYS = {item.name for item in fields(Config) if not is_dataclass(item.type)}


def run_grid(
    hydra_context: HydraContext, launcher: Launcher, config: DictConfig, grid: Sequence[list[str]]
) -> Sequence[JobReturn]:
    """Run the combinations in `grid` (the overrides of each) through `launcher` and return the results.

    Ends the program with a message for an error that the user can fix; it will exit with the status of `launch`.
    """
    with errors_as_messages():
        plan = plan_grid([*compose_grid(hydra_context.config_loader, config, grid)])
        if hasattr(launcher, "bounds"):
            launcher.bounds()  # its options are checked before anything is written
        _print_plan(plan)
        if plan.preview:
            from beans_exp.sweep.preview import print_grid_preview

            print_grid_preview(plan, config)
            return []
        from beans_exp.sweep.launch import launch  # MLflow is imported once the plan is known to be valid

        results, status = launch(plan, launcher, config)
    exit_when_done(status)
    return results


def refuse_intervals(overrides: Sequence[Override]) -> None:
    """Raise ConfigError for an interval, of which a grid cannot try every value."""
    for override in overrides:
        if override.is_interval_sweep():
            rule = "values or a range in a grid. To search an interval, set hydra/sweeper=optuna"
            raise ConfigError(f"{override.input_line}: must be {rule}")


def compose_grid(loader: ConfigLoader, config: DictConfig, grid: Sequence[list[str]]) -> Iterator[GridPoint]:
    """Compose each combination; Hydra reads its files once per choice of options.

    Hydra takes a tenth of a second to compose, so thousands of seeds would take minutes: a combination that differs
    from a composed one only in values is made from a copy of it. A value that does not fit is left to Hydra, for its
    message.
    """
    composed_by_options: dict[tuple[str, ...], DictConfig] = {}
    for overrides in grid:
        parsed = OverridesParser.create().parse_overrides(overrides)
        values = {override.key_or_group: override.value() for override in parsed if _sets_value(override)}
        options = (*values, *(str(override.input_line) for override in parsed if not _sets_value(override)))
        try:
            composed = copy.deepcopy(composed_by_options[options])
            for key, value in values.items():
                OmegaConf.update(composed, key, value, merge=True)
            typed = to_config(composed)
        except (KeyError, OmegaConfBaseException, ConfigError):
            composed = compose_point(loader, config, overrides)
            typed = to_config(composed)
            with open_dict(composed):
                del composed["hydra"]  # the larger part
            composed_by_options[options] = composed
        yield GridPoint(overrides, typed)


def _sets_value(override: Override) -> bool:
    """Whether it is `group.key=value`, or sets a key without a group; an option of a group has no dot."""
    key = override.key_or_group
    return override.type is OverrideType.CHANGE and ("." in key or key in PLAIN_KEYS)


def _print_plan(plan: Plan) -> None:
    """Print the number of points, and the options that were dropped."""
    print(f"{plan.requested} requested, {len(plan.jobs)} distinct")
    for reason in plan.dropped:
        print(f"  dropped: {reason}")
    sys.stdout.flush()
