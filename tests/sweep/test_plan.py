"""Plans: the distinct jobs of a grid, and its fingerprints."""

from collections.abc import Callable

import pytest

from beans_exp.errors import ConfigError
from beans_exp.schema import Config
from beans_exp.sweep.plan import GridPoint, Plan, plan_grid
from tests.conftest import TINY

Composed = Callable[..., Config]


def _plan(composed: Composed, *points: list[str]) -> Plan:
    return plan_grid([GridPoint(overrides, composed(*TINY, *overrides)) for overrides in points])


def test_equal_points_run_once(composed: Composed) -> None:
    plan = _plan(composed, ["reg=l2"], ["reg.l2=0.01"], ["reg=none"])
    assert (plan.requested, len(plan.jobs)) == (3, 2)
    assert [job.label for job in plan.jobs] == ["reg=l2", "reg=none"]
    assert [job.merged for job in plan.jobs] == [2, 1]


def test_an_option_without_effect_is_dropped_with_its_reason(composed: Composed) -> None:
    points = [
        [f"model={model}", f"kernel={kernel}"] for model in ("lenet", "lenet5") for kernel in ("k5", "factorized")
    ]
    plan = _plan(composed, *points)
    assert (plan.requested, len(plan.jobs)) == (4, 3)
    assert plan.dropped == [
        "kernel.factorized=true has no effect: model=lenet5 does not take factorized "
        "(it has the kernels of its architecture)"
    ]


def test_an_option_without_effect_at_every_point_is_an_error(composed: Composed) -> None:
    points = [[f"model={model}", f"finetune={depth}"] for model in ("lenet", "lenet5") for depth in ("none", "top2")]
    with pytest.raises(ConfigError, match=r"finetune\.blocks=2 has no effect.*no point of the grid"):
        _plan(composed, *points)


def test_a_grid_without_points_is_an_error() -> None:
    with pytest.raises(ConfigError, match="the grid is empty"):
        plan_grid([])


@pytest.mark.parametrize("overrides", [["tracking.experiment=a"], ["objective.name=test/accuracy"], ["plan=true"]])
def test_keys_of_the_whole_sweep_cannot_vary(overrides: list[str], composed: Composed) -> None:
    with pytest.raises(ConfigError, match="differs between the points"):
        _plan(composed, [], overrides)


def test_a_sweep_is_identified_by_its_set_of_runs(composed: Composed) -> None:
    plan = _plan(composed, ["reg=l1"], ["reg=l2"])
    assert plan.id == _plan(composed, ["reg=l2"], ["reg=l1"], ["reg.l1=0.01"]).id
    assert plan.id != _plan(composed, ["reg=l1"]).id
    other = ["tracking.experiment=other"]
    assert plan.id != _plan(composed, ["reg=l1", *other], ["reg=l2", *other]).id


SAME = [["trainer.test=false"], ["trainer.microbatch=8"], ["tracking.save_model=none"], ["run_name=x"], ["reg.name=x"]]
DIFFERENT = [
    ["seed=1"],
    ["data.draw_seed=1"],
    ["data.image_size=48"],
    ["data.train_fraction=0.5"],
    ["trainer.epochs=3"],
    ["trainer.select=best"],
    ["trainer.precision=bfloat16"],
    ["reg.augment=[flip]"],
    ["kernel.filters=[6,16,60]"],
]


@pytest.mark.parametrize(
    ("overrides", "same"), [*((changed, True) for changed in SAME), *((changed, False) for changed in DIFFERENT)]
)
def test_only_what_decides_the_result_changes_the_fingerprint(
    overrides: list[str], same: bool, composed: Composed
) -> None:
    plain, changed = (_plan(composed, point).jobs[0].fingerprint for point in ([], overrides))
    assert (plain == changed) == same


def test_a_label_has_the_values_that_change_an_option_that_varies(composed: Composed) -> None:
    points = [["kernel=k3", "kernel.filters=[2,2,4]", "seed=1"], ["kernel=k5", "kernel.filters=[2,2,4]", "seed=1"]]
    labels = [job.label for job in _plan(composed, *points).jobs]
    assert labels == ["kernel=k3 kernel.filters=[2,2,4]", "kernel=k5 kernel.filters=[2,2,4]"]
