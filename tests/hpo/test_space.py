"""The search space: every kind of override becomes what Optuna draws from, and its draws become overrides again."""

import sys
from typing import Any

import optuna
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from beans_exp.errors import ConfigError
from beans_exp.hpo.instantiate import instantiate
from beans_exp.hpo.space import describe, differences, grid, parsed, split_overrides, words
from beans_exp.schema import CONF

Space = dict[str, BaseDistribution]


def _space(*overrides: str, loader: ConfigLoader | None = None) -> Space:
    return split_overrides(parsed(None, overrides, loader))[1]


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
def test_a_sweep_is_a_distribution_of_the_same_values(word: str, distribution: BaseDistribution) -> None:
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
def test_a_glob_is_a_choice_of_the_options_that_it_matches(word: str, options: list[str], loader: ConfigLoader) -> None:
    assert list(_space(word, loader=loader).values()) == [CategoricalDistribution(options)]


def test_what_is_not_swept_stays_as_it_was_given() -> None:
    given = ["model=inception", "~reg.l1", "kernel.filters=[3, 8,60]", "run_name='a b'", "seed=1", "seed=2", "x=${y}"]
    fixed, space = split_overrides(parsed(None, [*given, "reg=l1,l2"], None))
    assert fixed == given
    assert list(space) == ["reg"]


def test_the_command_line_replaces_the_params_of_an_experiment() -> None:
    params = {"reg": "l1,l2", "seed": "range(3)", "kernel.filters": [3, 8, 60], "trainer.patience": None}
    fixed, space = split_overrides(parsed(params, ["seed=7", "reg=none,dropout"], None))
    assert fixed == ["kernel.filters=[3,8,60]", "trainer.patience=null", "seed=7"]
    assert space == {"reg": CategoricalDistribution(["none", "dropout"])}


CONTRADICTIONS = [
    (["a=interval(1,0)"], ["a=interval(1,0)", "a finite number to a larger one", "a=value"]),
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
    (["a=range(3,3)"], ["a=range(3,3)", "the stop is left out"]),
    (["a=range(0,3,-1)"], ["a=range(0,3,-1)", "holds a value"]),
    (["a=range(0,3,0)"], ["a=range(0,3,0)", "step is not 0"]),
    (["a=range(0,inf)"], ["a=range(0,inf)", "finite"]),
    (["a=choice()"], ["a=choice()", "empty choice"]),
    (["a=1,2,1"], ["a=1,2,1", "without repetitions"]),
    (["a=1,true"], ["a=1,true", "without repetitions"]),
    (["a=x,interval(0,1)"], ["a=x,interval(0,1)", "plain values"]),
    (["reg=glob(z*)"], ["reg=glob(z*)", "some option of reg", "label_smoothing"]),
    (["seed=glob(*)"], ["seed=glob(*)", "it is no group"]),
    (["a=1,2", "a=3"], ["a=1,2 and a=3 contradict", "Leave one out"]),
    (["a=1", "+a=interval(2,3)"], ["a=1 and +a=interval(2,3) contradict"]),
    (["a=interval(1)"], ["a=interval(1)", "grammar", "missing a required argument: 'end'"]),
]


@pytest.mark.parametrize(("overrides", "parts"), CONTRADICTIONS, ids=lambda value: " ".join(value))
def test_a_space_that_means_nothing_is_one_message(
    overrides: list[str], parts: list[str], loader: ConfigLoader
) -> None:
    with pytest.raises(ConfigError) as raised:
        _space(*overrides, loader=loader)
    for part in parts:
        assert part in str(raised.value)


MEANT: list[tuple[str, list[Any]]] = [
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


@pytest.mark.parametrize(("word", "meant"), MEANT, ids=[word for word, _ in MEANT])
def test_words_mean_to_hydra_what_the_sweep_meant(word: str, meant: list[Any]) -> None:
    ((key, values),) = grid(_space(word)).items()
    again = OverridesParser.create().parse_overrides([item for value in values for item in words({key: value})])
    assert {override.get_key_element() for override in again} == {key}
    assert [override.value() for override in again] == meant
    assert [type(override.value()) for override in again] == [type(value) for value in meant]


def test_the_params_of_trials_are_words_of_the_same_values() -> None:
    space = _space("lr=tag(log,interval(1e-8,1e9))", "n=int(interval(0,5))", "step=range(0,1,0.1)", "filters=[1,2],[3]")
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for trial in (study.ask(space) for _ in range(30)):
        again = {item.key_or_group: item for item in OverridesParser.create().parse_overrides(words(trial.params))}
        assert all(again[key].value() == trial.params[key] for key in ("lr", "n", "step"))
        assert again["filters"].value() in ([1, 2], [3])


def test_a_study_of_another_space_is_refused_with_the_difference() -> None:
    old = describe(_space("a=range(0,12)", "b=1,2", "c=interval(0,1)", "same=x,y"))
    new = describe(_space("a=range(0,7)", "b='1','2'", "d=tag(log,interval(1e-5,1))", "same=shuffle(x,y)"))
    assert differences(old, new) == [
        "a: int 0..11 before, int 0..6 now",
        """b: choice [1, 2] before, choice ["'1'", "'2'"] now""",
        "c: float 0.0..1.0 before, not searched now",
        "d: not searched before, float 1e-05..1.0 log now",
    ]
    assert differences(new, new) == []


def test_a_description_tells_steps_apart() -> None:
    space = _space("a=interval(0,1)", "b=range(0,2,1.0)", "c=range(0,2)", "d=range(0,3,2)", "e=range(0,1.5,0.5)")
    texts = ["float 0.0..1.0", "float 0.0..1.0 step 1.0", "int 0..1", "int 0..2 step 2", "float 0.0..1.0 step 0.5"]
    assert list(describe(space).values()) == texts


def test_a_grid_has_every_value() -> None:
    space = _space("a=x,null", "b=range(1,8,3)", "c=range(0,0.4,0.1)", "d=tag(log,int(interval(1,3)))")
    values = {"a": ["x", None], "b": [1, 4, 7], "c": [0.0, 0.1, 0.2, 0.3], "d": [1, 2, 3]}
    assert grid(space) == values
    optuna.samplers.GridSampler(grid(space))


def test_a_grid_of_an_interval_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"lr=interval\(0\.0,1\.0\): must be a choice or a range.*another sampler"):
        grid(_space("n=1,2", "lr=interval(0,1)"))


SWEEPER = CONF / "hydra" / "sweeper"
PARTS = [file for group in ("sampler", "pruner") for file in sorted((SWEEPER / group).glob("*.yaml"))]
BASES = {"sampler": optuna.samplers.BaseSampler, "pruner": optuna.pruners.BasePruner}


def _part(group: str, *overrides: str) -> Any:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", ["hydra/sweeper=optuna", *overrides], return_hydra_config=True)
    return OmegaConf.to_container(config.hydra.sweeper[group], resolve=True)


@pytest.mark.parametrize("file", PARTS, ids=lambda file: f"{file.parent.name}={file.stem}")
def test_every_shipped_sampler_and_pruner_can_be_made(file: Any) -> None:
    group = file.parent.name
    node = _part(group, f"hydra/sweeper/{group}={file.stem}")
    values = {"search_space": {"a": [1, 2]}} if file.stem == "grid" else {}
    assert isinstance(instantiate(node, f"hydra.sweeper.{group}", **values), BASES[group])


def test_the_contract_of_samplers_and_pruners() -> None:
    shipped = {group: {file.stem for file in PARTS if file.parent.name == group} for group in BASES}
    assert shipped["sampler"] == {"tpe", "random", "grid", "brute_force", "cmaes", "nsgaii", "qmc"}
    assert shipped["pruner"] == {"none", "median", "percentile", "successive_halving", "hyperband", "patient"}
    assert _part("sampler")["_target_"] == "optuna.samplers.TPESampler"
    assert _part("pruner")["_target_"] == "optuna.pruners.MedianPruner"


def test_a_part_is_made_with_its_arguments() -> None:
    node = _part("pruner", "hydra/sweeper/pruner=patient", "hydra.sweeper.pruner.wrapped_pruner.n_startup_trials=9")
    pruner = instantiate(node)
    assert isinstance(pruner, optuna.pruners.PatientPruner)
    assert isinstance(pruner._wrapped_pruner, optuna.pruners.MedianPruner)
    assert pruner._wrapped_pruner._n_startup_trials == 9


SAMPLERS, PRUNERS = "optuna.samplers", "optuna.pruners"
UNKNOWN: list[tuple[dict[str, Any], list[str]]] = [
    ({}, ["part._target_=null", "the path of a class"]),
    ({"_target_": "TPESampler"}, ["part._target_=TPESampler", "module first"]),
    ({"_target_": "optuna.nowhere.Sampler"}, ["No module named 'optuna.nowhere'"]),
    ({"_target_": f"{SAMPLERS}.TPESample"}, [f"part._target_={SAMPLERS}.TPESample", "did you mean TPESampler?"]),
    ({"_target_": "os.getcwd"}, ["part._target_=os.getcwd", "the path of a class in os"]),
    ({"_target_": f"{SAMPLERS}.RandomSampler", "sed": 1}, ["part.sed=1", "did you mean seed?"]),
    ({"_target_": f"{SAMPLERS}.RandomSampler", "sigma": 1}, ["part.sigma=1", "it takes seed"]),
    ({"_target_": f"{PRUNERS}.NopPruner", "patience": 1}, ["part.patience=1", "it takes none"]),
    ({"_target_": f"{PRUNERS}.PercentilePruner"}, ["PercentilePruner needs percentile", "+part.percentile=value"]),
    ({"_target_": f"{PRUNERS}.PercentilePruner", "percentile": 200.0}, ["part: ", "between 0 and 100"]),
    ({"_target_": f"{PRUNERS}.MedianPruner", "n_warmup_steps": "x"}, ["part: ", "does not take what it is given"]),
    (
        {"_target_": f"{PRUNERS}.PatientPruner", "patience": 1, "wrapped_pruner": {"_target_": f"{PRUNERS}.Media"}},
        [f"part.wrapped_pruner._target_={PRUNERS}.Media"],
    ),
]


@pytest.mark.parametrize(("node", "parts"), UNKNOWN, ids=lambda value: str(value) if isinstance(value, dict) else "")
def test_a_part_that_does_not_exist_is_one_message(node: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(ConfigError) as raised:
        instantiate(node, "part")
    for part in parts:
        assert part in str(raised.value)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna.samplers", None)
    with pytest.raises(ConfigError, match=r"optuna\.samplers"):
        instantiate({"_target_": "optuna.samplers.TPESampler"})
