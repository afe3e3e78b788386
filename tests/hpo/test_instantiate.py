"""Samplers and pruners from their descriptions: the shipped ones, nested ones, and those that cannot be created."""

import sys
from typing import Any

import optuna
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from beans_exp.errors import ConfigError
from beans_exp.hpo.instantiate import instantiate
from beans_exp.schema import CONF

SWEEPER = CONF / "hydra" / "sweeper"
PARTS = [file for group in ("sampler", "pruner") for file in sorted((SWEEPER / group).glob("*.yaml"))]
BASES = {"sampler": optuna.samplers.BaseSampler, "pruner": optuna.pruners.BasePruner}


def _part(group: str, *overrides: str) -> Any:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", ["hydra/sweeper=optuna", *overrides], return_hydra_config=True)
    return OmegaConf.to_container(config.hydra.sweeper[group], resolve=True)


@pytest.mark.parametrize("file", PARTS, ids=lambda file: f"{file.parent.name}={file.stem}")
def test_every_shipped_sampler_and_pruner_can_be_created(file: Any) -> None:
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


def test_a_nested_pruner_has_its_arguments() -> None:
    node = _part("pruner", "hydra/sweeper/pruner=patient", "hydra.sweeper.pruner.wrapped_pruner.n_startup_trials=9")
    pruner = instantiate(node)
    assert isinstance(pruner, optuna.pruners.PatientPruner)
    assert [_prunes_the_next(pruner, completed) for completed in (8, 9)] == [False, True]


def _prunes_the_next(pruner: optuna.pruners.BasePruner, completed: int) -> bool:
    """Whether `pruner` ends a bad trial that gets worse, after as many good ones were `completed`."""
    study = optuna.create_study(direction="maximize", pruner=pruner)
    good = dict.fromkeys(range(1, 13), 0.9)
    for _ in range(completed):
        study.add_trial(optuna.create_trial(value=0.9, intermediate_values=good))
    trial = study.ask()
    for step in good:
        trial.report(0.1 - step / 1000, step)
    return trial.should_prune()


SAMPLERS, PRUNERS = "optuna.samplers", "optuna.pruners"
UNKNOWN: list[tuple[dict[str, Any], list[str]]] = [
    ({}, ["part._target_=null", "the path of a class"]),
    ({"_target_": "TPESampler"}, ["part._target_=TPESampler", "module first"]),
    ({"_target_": "optuna.nowhere.Sampler"}, ["No module named 'optuna.nowhere'"]),
    ({"_target_": f"{SAMPLERS}.TPESample"}, [f"part._target_={SAMPLERS}.TPESample", "did you mean TPESampler?"]),
    ({"_target_": "os.getcwd"}, ["part._target_=os.getcwd", "the path of a class in os"]),
    ({"_target_": f"{SAMPLERS}.RandomSampler", "sed": 1}, ["part.sed=1", "did you mean seed?"]),
    ({"_target_": f"{SAMPLERS}.RandomSampler", "sigma": 1}, ["part.sigma=1", "it accepts seed"]),
    ({"_target_": f"{PRUNERS}.NopPruner", "patience": 1}, ["part.patience=1", "it accepts none"]),
    ({"_target_": f"{PRUNERS}.PercentilePruner"}, ["PercentilePruner needs percentile", "+part.percentile=value"]),
    ({"_target_": f"{PRUNERS}.PercentilePruner", "percentile": 200.0}, ["part: ", "between 0 and 100"]),
    ({"_target_": f"{PRUNERS}.MedianPruner", "n_warmup_steps": "x"}, ["part: ", "rejects its arguments"]),
    (
        {"_target_": f"{PRUNERS}.PatientPruner", "patience": 1, "wrapped_pruner": {"_target_": f"{PRUNERS}.Media"}},
        [f"part.wrapped_pruner._target_={PRUNERS}.Media"],
    ),
]


@pytest.mark.parametrize(("node", "parts"), UNKNOWN, ids=lambda value: str(value) if isinstance(value, dict) else "")
def test_a_description_that_cannot_be_created_is_one_message(node: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(ConfigError) as raised:
        instantiate(node, "part")
    for part in parts:
        assert part in str(raised.value)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna.samplers", None)
    with pytest.raises(ConfigError, match=r"optuna\.samplers"):
        instantiate({"_target_": "optuna.samplers.TPESampler"})
