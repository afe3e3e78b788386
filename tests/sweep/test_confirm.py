"""The confirmation of a search: which trials are confirmed, and which value belongs to which seed."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from hydra.core.utils import JobReturn, JobStatus
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.trial import create_trial

from beans_exp.hpo.study import SharedStudy, StudyDescription, open_study
from beans_exp.hpo.trial_attrs import FINGERPRINT
from beans_exp.schema import Config, ConfirmConfig, ObjectiveConfig
from beans_exp.sweep.confirm import best_trials, confirm, run_points
from beans_exp.sweep.point import Point
from tests.hpo.studies import RANDOM, journal_url


class _Reversed:
    """Jobs that end in the reverse order of their start, with the seed as their objective."""

    has_room = True

    def __init__(self) -> None:
        self.started: list[Point] = []

    def reuse(self, point: Point) -> None:
        return None

    def start(self, point: Point) -> int:
        self.started.append(point)
        return len(self.started) - 1

    def wait(self) -> list[tuple[int, JobReturn]]:
        results = [JobReturn(status=JobStatus.COMPLETED) for _ in self.started]
        for result, point in zip(results, self.started, strict=True):
            result.return_value = float(point.config.seed)
        return list(enumerate(results))[::-1]


def test_a_value_belongs_to_its_seed_in_whatever_order_jobs_end() -> None:
    points = [Point([], Config(seed=seed), f"mark{seed}", [], precision_was_auto=False) for seed in range(3)]
    assert run_points(_Reversed(), points) == {"mark0": 0.0, "mark1": 1.0, "mark2": 2.0}  # type: ignore[arg-type]


def test_of_equal_trials_only_the_first_is_confirmed() -> None:
    values = {"a": 0.5, "b": 0.9, "c": 0.7}
    trials = [create_trial(value=values[mark], user_attrs={FINGERPRINT: mark}) for mark in "abbc"]
    assert [trials.index(trial) for trial in best_trials(trials, maximize=True, count=2)] == [1, 3]
    assert [trials.index(trial) for trial in best_trials(trials, maximize=False, count=1)] == [0]


RATE: dict[str, BaseDistribution] = {"trainer.learning_rate": FloatDistribution(0, 1)}


@pytest.fixture
def study() -> Iterator[SharedStudy]:
    with open_study(journal_url(), "name", StudyDescription(RATE, {}, ["maximize"]), RANDOM) as opened:
        yield opened


class _Composer:
    """Points whose fingerprint tells their parameter, seed and test."""

    def shared_config(self) -> Config:
        return Config(confirm=ConfirmConfig(top=3, seeds=2))

    def point(self, params: Mapping[str, Any], *more: str) -> Point:
        seed = int(more[0].removeprefix("seed="))
        return Point([], Config(seed=seed), f"{params['trainer.learning_rate']} {seed}", [], precision_was_auto=False)

    def tested(self, point: Point) -> Point:
        return replace(point, fingerprint=f"{point.fingerprint} tested")


class _Jobs:
    """Finished runs, whose objective is their parameter and whose test accuracy is their seed."""

    has_room = True

    def __init__(self) -> None:
        self.reused: list[str] = []
        parent = SimpleNamespace(log_text=lambda *_: None, log_metric=lambda *_: None)
        self.sweep = SimpleNamespace(parent=parent)

    def reuse(self, point: Point) -> list[float]:
        self.reused.append(point.fingerprint)
        return [float(point.fingerprint.split()[0])]

    def wait(self) -> list[tuple[int, JobReturn]]:
        return []

    def metric(self, point: Point, name: str) -> float:
        return float(point.config.seed)

    def run_id(self, fingerprint: str) -> str:
        return fingerprint


def _add(study: SharedStudy, value: float) -> None:
    params = {"trainer.learning_rate": value}
    attrs = {FINGERPRINT: f"{value} 0"}
    study.study.add_trial(create_trial(value=value, params=params, distributions=RATE, user_attrs=attrs))


def test_the_winner_is_tested_on_seeds_that_it_was_not_chosen_by(study: SharedStudy) -> None:
    for value in (0.3, 0.5):
        _add(study, value)
    jobs = _Jobs()
    found = confirm(study, _Composer(), jobs, ObjectiveConfig())  # type: ignore[arg-type]
    assert jobs.reused == ["0.5 1", "0.5 2", "0.3 1", "0.3 2", "0.5 3 tested", "0.5 4 tested"]
    assert found.complete and found.tested
    assert (found.ranked[0].mean, found.tested.accuracies) == (0.5, [3, 4])


def test_a_study_that_finds_another_winner_counts_its_looks_at_the_test_images(study: SharedStudy) -> None:
    looks = []
    for value in (0.3, 0.2, 0.5):  # the second one does not win
        _add(study, value)
        tested = confirm(study, _Composer(), _Jobs(), ObjectiveConfig()).tested  # type: ignore[arg-type]
        assert tested
        looks.append(tested.looks)
    assert looks == [1, 1, 2]
