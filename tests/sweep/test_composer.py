"""The composer of a search: points and single runs from parameters, checked over the whole space."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra.conf import ConfigSourceInfo
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import open_dict

from beans_exp.hpo import space
from beans_exp.schema import CONF
from beans_exp.startup.hydra_checks import single_config
from beans_exp.sweep.composer import Composer
from beans_exp.sweep.point import Points
from beans_exp.sweep.search_space import check_space
from beans_exp.sweep.study_description import default_study_name, describe_study
from tests.conftest import TINY


def make_composer(loader: ConfigLoader, words: list[str]) -> Composer:
    config = loader.load_configuration("config", words, RunMode.MULTIRUN)
    return Composer(SimpleNamespace(config_loader=loader), config, words)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("words", "params"),
    [
        (["experiment=search_finetune"], {"finetune.blocks": 2, "finetune.learning_rate": 3e-5, "reg": "dropout"}),
        (
            ["experiment=search_transfer", "confirm.top=1"],
            {"model.top_block": "mixed5", "finetune.blocks": 9, "finetune.epochs": 7, "reg.augment": "[flip]"},
        ),
        (["tracking.save_model=best", "model=inception"], {"finetune.blocks": 0, "finetune.learning_rate": 3e-5}),
    ],
)
def test_the_printed_command_repeats_the_trial(
    words: list[str], params: dict[str, Any], loader: ConfigLoader, weights: str
) -> None:
    words = ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=2", *words, "data=synthetic", "data.image_size=75"]
    words.append(f"model.weights={weights}")
    composer = make_composer(loader, words)
    overrides = composer.single_run(params)
    single = loader.load_configuration("config", overrides, RunMode.RUN)
    assert single.hydra.mode in (None, RunMode.RUN)
    again = Points().resolve(overrides, single_config(single))
    assert again.fingerprint == composer.point(params).fingerprint
    assert again.config.trainer.test and not again.inert


def test_the_winner_is_tested_and_not_trained_again(loader: ConfigLoader) -> None:
    composer = make_composer(loader, [*TINY, "if_exists=rerun"])
    config = composer.tested(composer.point({"reg.l2": 0.1})).config
    assert (config.if_exists, config.trainer.test) == ("reuse", True)


def test_an_option_that_has_an_effect_beside_one_choice_only_is_searched(loader: ConfigLoader, weights: str) -> None:
    words = ["model=lenet,inception,googlenet", "finetune.blocks=range(0,4)"]
    _, searched = space.split_overrides(space.parse_overrides(None, words, loader))
    fixed = [f"model.weights={weights}", "data=synthetic", "data.image_size=75"]
    assert check_space(make_composer(loader, fixed), searched).tunes


def test_another_result_version_is_another_study_by_default(
    loader: ConfigLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, searched = space.split_overrides(space.parse_overrides(None, ["reg.l2=choice(0.0,0.01)"], loader))
    composer = make_composer(loader, TINY)
    first = composer.point({"reg.l2": 0.0})

    def name() -> str:
        return default_study_name(describe_study(composer, first, searched).entries, "beans_exp")

    before, same = name(), name()
    monkeypatch.setattr("beans_exp.sweep.study_description.RESULT_VERSION", 99)
    assert before == same != name()
    unrecorded = describe_study(composer, first, searched).entries
    del unrecorded["result version"]
    assert default_study_name(unrecorded, "beans_exp") not in (before, name())


def _entries(loader: ConfigLoader, *words: str, search: str = "seed=range(2)") -> dict[str, str]:
    """The description of the study of a search."""
    _, searched = space.split_overrides(space.parse_overrides(None, [search], loader))
    composer = make_composer(loader, [*TINY, *words])
    first = composer.point({key: space.end_values(distribution)[0] for key, distribution in searched.items()})
    return describe_study(composer, first, searched).entries


def test_a_study_is_known_by_what_its_words_compose_to(loader: ConfigLoader, monkeypatch: pytest.MonkeyPatch) -> None:
    words = "reg.l2=${oc.env:STRENGTH}"
    monkeypatch.setenv("STRENGTH", "0.1")
    before = _entries(loader, words)
    assert before == _entries(loader, "reg.l2=0.1"), "other words for the same"
    monkeypatch.setenv("STRENGTH", "0.2")
    after = _entries(loader, words)
    assert space.differences(before, after) == ["reg.l2: 0.1 before, 0.2 now"]


@pytest.mark.parametrize(
    "same",
    [
        ["run_name=other"],
        ["reg.name=other"],
        ["tracking.save_model=none"],
        ["confirm.top=1"],
        ["features.max_gb=1"],
        ["trainer.microbatch=4"],
    ],
)
def test_what_changes_no_trials_value_is_no_difference(same: list[str], loader: ConfigLoader) -> None:
    assert _entries(loader, *same) == _entries(loader)


def test_an_edited_option_is_another_study(tmp_path: Path) -> None:
    (tmp_path / "reg").mkdir()
    found = []
    for strength in (0.1, 0.2):
        (tmp_path / "reg" / "mine.yaml").write_text(f"name: mine\nl2: {strength}\n")
        with initialize_config_dir(str(CONF), version_base="1.3"):
            loader = GlobalHydra.instance().config_loader()
            word = f"hydra.searchpath=[file://{tmp_path}]"
            found.append(_entries(loader, word, search="reg=none,mine"))
    assert space.differences(*found) == ["reg=mine: reg.l2=0.1 before, reg.l2=0.2 now"]


def test_the_printed_command_composes_from_the_same_files(loader: ConfigLoader, tmp_path: Path) -> None:
    searchpath = f"hydra.searchpath=[file://{tmp_path}]"
    words = [*TINY, searchpath]
    composer = make_composer(loader, words)
    sources = composer.config.hydra.runtime.config_sources
    with open_dict(composer.config):
        own = ConfigSourceInfo(path="/own options", schema="file", provider="command-line")
        composer.config.hydra.runtime.config_sources = [*sources, own]
    program = ["python", "-m", "beans_exp", "--config-dir", "/own options", searchpath]
    assert composer.program == program
