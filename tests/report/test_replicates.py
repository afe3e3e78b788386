"""The command that adds seeds: the runs that it describes are those that exist, and new seeds of them."""

import shlex
from collections.abc import Callable
from dataclasses import replace

import pytest

from beans_exp.report.deciding import decides
from beans_exp.report.replicates import Place, command_for_seeds, overrides
from beans_exp.report.runs.collect import Collected
from beans_exp.report.runs.groups import Group
from beans_exp.schema import Config, TrackingConfig
from beans_exp.tracking.params import flat_params
from beans_exp.tracking.store import store_uri
from tests.report.conftest import group_of

pytestmark = pytest.mark.xdist_group("report")


def _here() -> Place:
    """Return the place that a command uses unless told otherwise, in the test's folder."""
    return Place(store_uri(TrackingConfig()), TrackingConfig().experiment)


def test_the_overrides_of_a_configuration_compose_to_its_values(
    collected: Collected, composed: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BEANS_EXP_INCEPTION_WEIGHTS", raising=False)
    assert len(collected.groups) > 8
    for group in collected.groups:
        words = [f"{key}={value}" for key, value in overrides(group.values).items()]
        params = flat_params(composed(*words))
        assert {key: value for key, value in params.items() if decides(key)} == group.values, words


def _with_seeds(group: Group, *seeds: int) -> Group:
    run = next(iter(group.done.values()))
    return replace(group, done={seed: replace(run, seed=seed) for seed in seeds})


@pytest.mark.parametrize(
    ("ours", "theirs", "words"),
    [
        ([0], [0], "seed=range(3)"),
        ([7], [7], "seed=0,1,7"),
        ([0, 1, 2, 3], [2], "seed=range(4)"),
        ([1], [5], "seed=0,1,5"),
    ],
)
def test_existing_seeds_are_among_those_that_run(
    ours: list[int], theirs: list[int], words: str, collected: Collected
) -> None:
    sides = [_with_seeds(group_of(collected, "LeNet"), *seeds) for seeds in (ours, theirs)]
    assert shlex.split(command_for_seeds(sides, _here()))[-1] == words


def test_sides_that_differ_in_one_key_are_one_grid_and_others_two(collected: Collected) -> None:
    lenet, l2, top2 = (
        group_of(collected, title) for title in ("LeNet", "LeNet + L2 0.01", "Inception-v3, top 2 blocks")
    )
    one, two = command_for_seeds([lenet, l2], _here()), command_for_seeds([lenet, top2], _here())
    assert one == "python -m beans_exp -m reg.l2=0.0,0.01 'seed=range(3)'"
    assert two.split(" && ") == [
        "python -m beans_exp -m 'seed=range(3)'",
        "python -m beans_exp -m model=inception finetune.blocks=2 'seed=range(3)'",
    ]


def test_another_store_and_experiment_are_named(collected: Collected) -> None:
    command = command_for_seeds([group_of(collected, "LeNet")] * 2, Place("http://host:5000", "grid"))
    assert command.endswith("tracking.experiment=grid tracking.uri=http://host:5000 'seed=range(3)'")
