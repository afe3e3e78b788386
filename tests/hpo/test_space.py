"""The search space: every kind of override becomes a distribution, and drawn values become overrides again."""

from typing import Any

import optuna
import pytest
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from beans_exp.errors import ConfigError
from beans_exp.hpo.space import describe, differences, grid, parse_overrides, split_overrides, to_overrides

Space = dict[str, BaseDistribution]


def _space(*overrides: str, loader: ConfigLoader | None = None) -> Space:
    return split_overrides(parse_overrides(None, overrides, loader))[1]


SWEEPS: list[tuple[str, BaseDistribution]] = [
    ("a=choice(x,y)", CategoricalDistribution(["x", "y"])),
    ("a=choice(x)", CategoricalDistribution(["x"])),
    ("a=3,1,2", CategoricalDistribution([3, 1, 2])),
    ("a=null,true,0.5,x", CategoricalDistribution([None, True, 0.5, "x"])),
    ("a=[1,2,3],[4, 5, 6]", CategoricalDistribution(["[1,2,3]", "[4,5,6]"])),
    ("a={x: 1},null", CategoricalDistribution(["{x:1}", None])),
    ("a='x,y',z", CategoricalDistribution(["'x,y'", "z"])),
    ("a=x\\,y,z", CategoricalDistribution(["x\\,y", "z"])),
    ("a=choice('5',x)", CategoricalDistribution(["'5'", "x"])),
    ("a=str(1,2)", CategoricalDistribution(["'1'", "'2'"])),
    ("a=int(1.2,2.7)", CategoricalDistribution([1, 2])),
    ("a=shuffle(3,1,2)", CategoricalDistribution([3, 1, 2])),
    ("a=shuffle(choice(3,1,2))", CategoricalDistribution([3, 1, 2])),
    ("a=sort(3,1,2)", CategoricalDistribution([1, 2, 3])),
    ("a=range(12)", IntDistribution(0, 11)),
    ("a=range(0,12)", IntDistribution(0, 11)),
    ("a=range(0,12,5)", IntDistribution(0, 10, step=5)),
    ("a=range(10,0,-3)", IntDistribution(1, 10, step=3)),
    ("a=range(3,4)", IntDistribution(3, 3)),
    ("a=shuffle(range(0,5))", IntDistribution(0, 4)),
    ("a=tag(log,range(1,9))", IntDistribution(1, 8, log=True)),
    ("a=range(0,1,0.1)", FloatDistribution(0, 0.9, step=0.1)),
    ("a=range(0,2.1,0.7)", FloatDistribution(0, 1.4, step=0.7)),
    ("a=range(0.5,0,-0.25)", FloatDistribution(0.25, 0.5, step=0.25)),
    ("a=float(range(0,3))", FloatDistribution(0, 2, step=1)),
    ("a=interval(0,1)", FloatDistribution(0, 1)),
    ("a=interval(-1.5,2)", FloatDistribution(-1.5, 2)),
    ("a=int(interval(1,12))", IntDistribution(1, 12)),
    ("a=tag(log,interval(1e-5,1e-3))", FloatDistribution(1e-5, 1e-3, log=True)),
    ("a=tag(log,int(interval(1,128)))", IntDistribution(1, 128, log=True)),
    ("a=int(tag(log,interval(1,128)))", IntDistribution(1, 128, log=True)),
    ("model@other=lenet,inception", CategoricalDistribution(["lenet", "inception"])),
    ("+a.b=1,2", CategoricalDistribution([1, 2])),
    ("++a.b=interval(0,1)", FloatDistribution(0, 1)),
]


@pytest.mark.parametrize(("word", "distribution"), SWEEPS, ids=[word for word, _ in SWEEPS])
def test_a_sweep_becomes_a_distribution_over_the_same_values(word: str, distribution: BaseDistribution) -> None:
    (key, found), *others = _space(word).items()
    assert not others
    assert key == word.split("=")[0]
    assert found == distribution
    assert describe({key: found}) == describe({key: distribution})


@pytest.mark.parametrize(
    ("word", "options"),
    [
        ("finetune=glob(*)", ["none", "top2", "top3", "top6"]),
        ("model@other=glob(le*)", ["lenet", "lenet5"]),
        ("reg=glob([l*,d*],exclude=l1*)", ["dropout", "l2", "label_smoothing"]),
    ],
)
def test_a_glob_becomes_a_choice_of_the_options_it_matches(word: str, options: list[str], loader: ConfigLoader) -> None:
    assert list(_space(word, loader=loader).values()) == [CategoricalDistribution(options)]


def test_overrides_that_are_not_swept_stay_unchanged() -> None:
    given = ["model=inception", "~reg.l1", "kernel.filters=[3, 8,60]", "run_name='a b'", "seed=1", "seed=2", "x=${y}"]
    fixed, space = split_overrides(parse_overrides(None, [*given, "reg=l1,l2"], None))
    assert fixed == given
    assert list(space) == ["reg"]


def test_the_command_line_replaces_the_params_of_an_experiment() -> None:
    params = {"reg": "l1,l2", "seed": "range(3)", "kernel.filters": [3, 8, 60], "trainer.patience": None}
    fixed, space = split_overrides(parse_overrides(params, ["seed=7", "reg=none,dropout"], None))
    assert fixed == ["kernel.filters=[3,8,60]", "trainer.patience=null", "seed=7"]
    assert space == {"reg": CategoricalDistribution(["none", "dropout"])}


CONTRADICTIONS = [
    (["a=interval(1,0)"], ["a=interval(1,0)", "a finite number to a larger one", "Write a=value"]),
    (["a=interval(1,1)"], ["a=interval(1,1)", "larger"]),
    (["a=interval(0,inf)"], ["a=interval(0,inf)", "finite"]),
    (["a=interval(nan,1)"], ["a=interval(nan,1)", "finite"]),
    (["a=int(interval(0.2,0.9))"], ["a=int(interval(0.2,0.9))", "larger"]),
    (["a=tag(log,interval(0,1))"], ["a=tag(log,interval(0,1))", "above 0"]),
    (["a=tag(log,int(interval(0,5)))"], ["a=tag(log,int(interval(0,5)))", "above 0"]),
    (["a=tag(log,choice(1,2))"], ["a=tag(log,choice(1,2))", "without tag(log)"]),
    (["a=tag(log,range(1,9,2))"], ["a=tag(log,range(1,9,2))", "without a step"]),
    (["a=tag(log,range(1,2,0.5))"], ["a=tag(log,range(1,2,0.5))", "without a step"]),
    (["a=tag(lg,interval(1,2))"], ["a=tag(lg,interval(1,2))", "tagged log or not at all"]),
    (["a=range(3,3)"], ["a=range(3,3)", "the stop is excluded"]),
    (["a=range(0,3,-1)"], ["a=range(0,3,-1)", "at least one value"]),
    (["a=range(0,3,0)"], ["a=range(0,3,0)", "step is not 0"]),
    (["a=range(0,inf)"], ["a=range(0,inf)", "finite"]),
    (["a=choice()"], ["a=choice()", "empty choice"]),
    (["a=1,2,1"], ["a=1,2,1", "without repetitions"]),
    (["a=1,true"], ["a=1,true", "without repetitions"]),
    (["a=x,interval(0,1)"], ["a=x,interval(0,1)", "plain values"]),
    (["reg=glob(z*)"], ["reg=glob(z*)", "matches an option of reg", "label_smoothing"]),
    (["seed=glob(*)"], ["seed=glob(*)", "it is not a group"]),
    (["a=1,2", "a=3"], ["a=1,2 and a=3 contradict", "Leave one out"]),
    (["a=1", "+a=interval(2,3)"], ["a=1 and +a=interval(2,3) contradict"]),
    (["a=interval(1)"], ["a=interval(1)", "grammar", "missing a required argument: 'end'"]),
]


@pytest.mark.parametrize(("overrides", "parts"), CONTRADICTIONS, ids=lambda value: " ".join(value))
def test_an_invalid_space_is_one_message(overrides: list[str], parts: list[str], loader: ConfigLoader) -> None:
    with pytest.raises(ConfigError) as raised:
        _space(*overrides, loader=loader)
    for part in parts:
        assert part in str(raised.value)


PARSED: list[tuple[str, list[Any]]] = [
    ("a=null,true,false,3,-2,0.5", [None, True, False, 3, -2, 0.5]),
    ("a=1e-5,1e16,inf,-0.0", [1e-5, 1e16, float("inf"), -0.0]),
    ("a=lenet,top2,a b,x/y.z", ["lenet", "top2", "a b", "x/y.z"]),
    ("a='null','5',\"it's\",'a,b=c'", ["null", "5", "it's", "a,b=c"]),
    ("a=choice('null','5',\"it's\",'a,b=c','true','')", ["null", "5", "it's", "a,b=c", "true", ""]),
    ("a=[1,2,3],[],[x,'y z',[true]]", [[1, 2, 3], [], ["x", "y z", [True]]]),
    ("a={x:1,y:[2.5]},{}", [{"x": 1, "y": [2.5]}, {}]),
    ("a=range(0,1,0.25)", [0.0, 0.25, 0.5, 0.75]),
    ("+a@b=range(2,7,2)", [2, 4, 6]),
]


@pytest.mark.parametrize(("word", "expected"), PARSED, ids=[word for word, _ in PARSED])
def test_hydra_parses_drawn_values_as_the_sweep_meant_them(word: str, expected: list[Any]) -> None:
    ((key, values),) = grid(_space(word)).items()
    again = OverridesParser.create().parse_overrides([item for value in values for item in to_overrides({key: value})])
    assert {override.get_key_element() for override in again} == {key}
    assert [override.value() for override in again] == expected
    assert [type(override.value()) for override in again] == [type(value) for value in expected]


def test_the_overrides_of_a_trial_have_its_values() -> None:
    space = _space("lr=tag(log,interval(1e-8,1e9))", "n=int(interval(0,5))", "step=range(0,1,0.1)", "filters=[1,2],[3]")
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for trial in (study.ask(space) for _ in range(30)):
        again = {
            item.key_or_group: item for item in OverridesParser.create().parse_overrides(to_overrides(trial.params))
        }
        assert all(again[key].value() == trial.params[key] for key in ("lr", "n", "step"))
        assert again["filters"].value() in ([1, 2], [3])


def test_differences_between_spaces_are_listed_by_key() -> None:
    old = describe(_space("a=range(0,12)", "b=1,2", "c=interval(0,1)", "same=x,y"))
    new = describe(_space("a=range(0,7)", "b='1','2'", "d=tag(log,interval(1e-5,1))", "same=shuffle(x,y)"))
    assert differences(old, new) == [
        "a: int 0..11 before, int 0..6 now",
        """b: choice [1, 2] before, choice ["'1'", "'2'"] now""",
        "c: float 0.0..1.0 before, not searched now",
        "d: not searched before, float 1e-05..1.0 log now",
    ]
    assert differences(new, new) == []


def test_descriptions_distinguish_steps() -> None:
    space = _space("a=interval(0,1)", "b=range(0,2,1.0)", "c=range(0,2)", "d=range(0,3,2)", "e=range(0,1.5,0.5)")
    texts = ["float 0.0..1.0", "float 0.0..1.0 step 1.0", "int 0..1", "int 0..2 step 2", "float 0.0..1.0 step 0.5"]
    assert list(describe(space).values()) == texts


def test_a_grid_contains_every_value() -> None:
    space = _space("a=x,null", "b=range(1,8,3)", "c=range(0,0.4,0.1)", "d=tag(log,int(interval(1,3)))")
    values = {"a": ["x", None], "b": [1, 4, 7], "c": [0.0, 0.1, 0.2, 0.3], "d": [1, 2, 3]}
    assert grid(space) == values
    optuna.samplers.GridSampler(grid(space))


def test_an_interval_cannot_be_a_grid() -> None:
    with pytest.raises(ConfigError, match=r"lr=interval\(0\.0,1\.0\): must be a choice or a range.*another sampler"):
        grid(_space("n=1,2", "lr=interval(0,1)"))
