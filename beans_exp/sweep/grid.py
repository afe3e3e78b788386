"""A grid from its overrides to its table: plan, then launch."""

import sys
from collections.abc import Sequence

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext
from omegaconf import DictConfig

from beans_exp.entry import errors_as_messages
from beans_exp.schema import to_config
from beans_exp.sweep.plan import Asked, Plan, plan_grid


def run_grid(
    hydra_context: HydraContext, launcher: Launcher, config: DictConfig, grid: Sequence[list[str]]
) -> Sequence[JobReturn]:
    """Run the combinations in `grid` (the overrides of each) through `launcher` and return what came back.

    Ends the program with a message for what the user can mend, and with exit status 1, after the table, if a job did
    not end well.
    """
    with errors_as_messages():
        points = [_compose(hydra_context, config, overrides) for overrides in grid]
        plan = plan_grid(points)
        _print_plan(plan)
        if plan.only:
            from beans_exp.sweep.forecast import print_forecast

            print_forecast(plan, config)
            return []
        from beans_exp.sweep.launch import launch  # MLflow is imported once the plan is known to be good

        returns, every_job_ended_well = launch(plan, launcher, config)
    if not every_job_ended_well:
        sys.exit(1)
    return returns


def _compose(hydra_context: HydraContext, config: DictConfig, overrides: list[str]) -> Asked:
    return Asked(overrides, to_config(hydra_context.config_loader.load_sweep_config(config, overrides)))


def _print_plan(plan: Plan) -> None:
    """Print how many points were asked for, and what was dropped."""
    print(f"{plan.requested} requested, {len(plan.jobs)} distinct")
    for text in plan.dropped:
        print(f"  reduced: {text}")
    sys.stdout.flush()
