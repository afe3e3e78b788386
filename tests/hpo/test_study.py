"""The study of a search: created once, continued by the same search, and refused by any other."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import Any

import optuna
import pytest
from optuna.distributions import IntDistribution
from optuna.trial import TrialState

from beans_exp.errors import ConfigError, StoreError
from beans_exp.hpo.study import DESCRIPTION as STORED
from beans_exp.hpo.study import WORDS, StudyDescription
from tests.hpo.studies import DESCRIPTION, NAME, SPACE, journal_url, open_test_study, sqlite_url
from tests.servers import postgres


def test_the_same_search_continues_its_study() -> None:
    drawn = []
    for _ in range(2):
        with open_test_study(sqlite_url()) as study:
            for _ in range(2):
                trial = study.ask()
                drawn.append(tuple(trial.params.values()))
                study.tell(trial, 0.5, TrialState.COMPLETE)
    assert len(study.counted) == 4
    assert len(set(drawn)) == 4, "a restarted sampler does not repeat points"


def test_machines_that_open_an_empty_database_at_the_same_moment_all_succeed() -> None:
    machines = 6
    ready = threading.Barrier(machines)

    def open_at_once(url: str) -> int:
        ready.wait()
        with open_test_study(url) as study:
            return study.ask().number

    with postgres() as database, ThreadPoolExecutor(machines) as pool:
        numbers = list(pool.map(open_at_once, [f"{database}/optuna"] * machines))
    assert len(set(numbers)) == machines, "one trial each; retries of abandoned ones have further numbers"


@pytest.mark.parametrize(
    ("description", "lines"),
    [
        (
            replace(DESCRIPTION, space=SPACE | {"finetune.blocks": IntDistribution(0, 6)}),
            ["int 0..11 before, int 0..6 now"],
        ),
        (replace(DESCRIPTION, space={"seed": IntDistribution(0, 1)}), ["seed: not searched before", "reg.dropout: "]),
        (replace(DESCRIPTION, facts=DESCRIPTION.facts | {"data": "noise 2"}), ["data: noise 1 before, noise 2 now"]),
        (replace(DESCRIPTION, directions=["minimize"]), ["directions: maximize before, minimize now"]),
    ],
)
def test_a_different_search_is_refused_with_the_difference(description: StudyDescription, lines: list[str]) -> None:
    url = sqlite_url()
    with open_test_study(url):
        pass
    with pytest.raises(ConfigError, match=f"study_name={NAME}: must be a study of the same search") as caught:
        open_test_study(url, description)
    assert all(line in str(caught.value) for line in lines)
    assert "Set another name, or leave it out" in str(caught.value)
    assert len(optuna.get_all_study_names(url)) == 1


def test_a_study_without_a_description_is_continued() -> None:
    url = sqlite_url("optuna.db")
    optuna.create_study(storage=url, study_name=NAME, direction="maximize")
    with open_test_study(url) as study:
        assert study.study.user_attrs == {STORED: DESCRIPTION.entries}


@pytest.mark.parametrize(
    "url", ["sqlite:////proc/nowhere/optuna.db", "postgresql://nobody@127.0.0.1:9/none", "gibberish"]
)
def test_an_unusable_storage_is_an_error(url: str) -> None:
    with pytest.raises(StoreError, match=r"hydra\.sweeper\.storage: .* cannot be used"):
        open_test_study(url)


def test_a_trial_beyond_the_limit_does_not_count() -> None:
    with open_test_study(journal_url()) as study:
        assert study.ask_within(0) is None
        assert study.counted == [] and study.study.get_trials()[0].state == TrialState.FAIL
        trial = study.ask_within(1)
        assert trial is not None and [other.number for other in study.counted] == [trial.number]


@pytest.mark.parametrize("kind", ["GridSampler", "BruteForceSampler"])
def test_an_interrupted_grid_draws_every_point_once(kind: str) -> None:
    url = sqlite_url()
    description = replace(DESCRIPTION, space={"finetune.blocks": IntDistribution(0, 3)})
    sampler: dict[str, Any] = {"_target_": f"optuna.samplers.{kind}", "seed": 0}
    completed = []
    for interrupted_at in (2, 1, 9):
        with suppress(KeyboardInterrupt), open_test_study(url, description, sampler) as study:
            for count in range(9):
                if study.exhausted:
                    break
                trial = study.ask()
                if count == interrupted_at:
                    raise KeyboardInterrupt
                study.tell(trial, 0.5, TrialState.COMPLETE)
                completed.append(trial.params["finetune.blocks"])
    assert sorted(completed) == [0, 1, 2, 3]
    with open_test_study(url, description, sampler) as study:
        assert study.exhausted, "the same command draws no point again"


def test_another_composed_configuration_is_refused_key_by_key() -> None:
    url = sqlite_url()
    with open_test_study(url, replace(DESCRIPTION, configuration={"trainer.epochs": "20", "reg.l2": "0.1"})):
        pass
    with pytest.raises(ConfigError, match=r"differs:\n  trainer\.epochs: 20 before, 3 now\nSet another name"):
        open_test_study(url, replace(DESCRIPTION, configuration={"trainer.epochs": "3", "reg.l2": "0.1"}))


@pytest.mark.parametrize(("words", "refused"), [("reg=l2", False), ("reg=l1", True)])
def test_a_study_that_is_known_by_its_words_is_continued_with_them(words: str, refused: bool) -> None:
    url = sqlite_url()
    older = replace(DESCRIPTION, facts=DESCRIPTION.facts | {WORDS: "reg=l2"})
    with open_test_study(url, older):
        pass
    now = replace(DESCRIPTION, configuration={"reg.l2": "0.01"}, words=words)
    if refused:
        with pytest.raises(ConfigError, match="fixed overrides: reg=l2 before, reg=l1 now"):
            open_test_study(url, now)
        return
    with open_test_study(url, now) as study:
        assert study.study.user_attrs[STORED] == now.entries
