"""The words of the command line that are refused before Hydra parses them, each with its way out."""

from pathlib import Path

import pytest

from beans_exp.errors import ConfigError
from beans_exp.startup.command_line import checked_words


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trainer.epoch=1"], "trainer.epoch is not a key of the configuration; did you mean epochs?"),
        (["model.name.first=1", "tracing.uri=x"], "tracing is not a key of the configuration; did you mean tracking?"),
        (["-m", "reg.droput=0.1,0.2"], "reg.droput is not a key of the configuration; did you mean dropout?"),
        (["typo=1"], "typo is not a key of the configuration; known: model, "),
        (["--config-dir", "options", "group=x"], "group is not a key"),
        (["--cfg", "hydra", "-m", "reg=l1,l2"], "-m: must be left out with --cfg"),
        (["--info=config", "--multirun"], "--multirun: must be left out with --info=config"),
        (["experiment=search_depth", "hydra/sweeper=grid"], "hydra/sweeper=grid: must be optuna with experiment="),
        (["run_name=na\udcefve"], "run_name=na\\xefve: must be UTF-8"),
    ],
)
def test_a_word_that_means_nothing_is_refused_with_the_way_out(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        checked_words(words)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    "words",
    [
        ["-m", "model=lenet", "reg.l2=interval(0,1)", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=2"],
        ["--config-dir", "options", "mine=a", "study.reported.test=1"],
        ["--config-name", "own", "anything.at.all=1"],
        ["++typo=1", "~reg", "model@other=lenet", "study=lenet"],
        ["experiment=search_depth", "hydra/sweeper=optuna", "hydra.mode=RUN"],
        ["experiment=search_depth", "--cfg", "job"],
        ["-m", "experiment=study", "hydra/sweeper=grid"],
        ["--cfg", "job", "reg=l2"],
    ],
)
def test_other_words_are_left_to_hydra(words: list[str]) -> None:
    Path("options/mine").mkdir(parents=True)
    assert checked_words(words) == words


def test_an_experiment_is_started_as_a_sweep_by_the_command_line_too() -> None:
    own = Path("options/experiment/own.yaml")
    own.parent.mkdir(parents=True)
    own.write_text("hydra: {mode: MULTIRUN}\n")
    for words in (["experiment=study"], ["--config-dir=options", "experiment=own"]):
        assert checked_words(words) == [*words, "hydra.mode=MULTIRUN"]
    own.write_text("hydra: [\n")
    assert checked_words(["--config-dir=options", "experiment=own"]) == ["--config-dir=options", "experiment=own"]
