"""A grid from its overrides to its table: plan, then launch."""

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
from beans_exp.startup.console import errors_as_messages
from beans_exp.sweep.plan import GridPoint, Plan, plan_grid

PLAIN_KEYS = {item.name for item in fields(Config) if not is_dataclass(item.type)}


def run_grid(
    hydra_context: HydraContext, launcher: Launcher, config: DictConfig, grid: Sequence[list[str]]
) -> Sequence[JobReturn]:
    """Run the combinations in `grid` (the overrides of each) through `launcher` and return what came back.

    Ends the program with a message for what the user can mend, and with exit status 1, after the table, if a job did
    not end well.
    """
    with errors_as_messages():
        points = [*compose_grid(hydra_context.config_loader, config, grid)]
        plan = plan_grid(points)
        if hasattr(launcher, "bounds"):
            launcher.bounds()  # what it is given is checked before anything is written
        _print_plan(plan)
        if plan.only:
            from beans_exp.sweep.preview import print_grid_preview

            print_grid_preview(plan, config)
            return []
        from beans_exp.sweep.launch import launch  # MLflow is imported once the plan is known to be good

        returns, every_job_ended_well = launch(plan, launcher, config)
    if not every_job_ended_well:
        sys.exit(1)
    return returns


def compose_grid(loader: ConfigLoader, config: DictConfig, grid: Sequence[list[str]]) -> Iterator[GridPoint]:
    """Compose each combination; Hydra reads its files once for each choice of options.

    That takes it a tenth of a second, so that thousands of seeds would take minutes: what differs from a combination
    that Hydra composed in values alone is set in a copy of it, as Hydra would. A value that does not fit is left to
    Hydra, for its message.
    """
    made: dict[tuple[str, ...], DictConfig] = {}
    for overrides in grid:
        parsed = OverridesParser.create().parse_overrides(overrides)
        values = {word.key_or_group: word.value() for word in parsed if _sets_a_value(word)}
        options = (*values, *(str(word.input_line) for word in parsed if not _sets_a_value(word)))
        try:
            composed = copy.deepcopy(made[options])
            for key, value in values.items():
                OmegaConf.update(composed, key, value, merge=True)
            found = to_config(composed)
        except (KeyError, OmegaConfBaseException, ConfigError):
            whole = loader.load_sweep_config(config, overrides)
            found = to_config(whole)
            with open_dict(whole):
                del whole["hydra"]  # the larger part
            made[options] = whole
        yield GridPoint(overrides, found)


def _sets_a_value(word: Override) -> bool:
    """Whether it is `group.key=value`, or one of a key without a group; an option of a group has no dot."""
    return word.type is OverrideType.CHANGE and ("." in word.key_or_group or word.key_or_group in PLAIN_KEYS)


def _print_plan(plan: Plan) -> None:
    """Print how many points were asked for, and what was dropped."""
    print(f"{plan.requested} requested, {len(plan.jobs)} distinct")
    for text in plan.dropped:
        print(f"  reduced: {text}")
    sys.stdout.flush()
