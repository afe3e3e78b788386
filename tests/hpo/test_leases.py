"""Trials of dead and silent processes are closed, and their points retried; those of living ones are kept."""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from optuna.trial import TrialState

from beans_exp.hpo.leases import MAX_MISSED
from beans_exp.hpo.study import SharedStudy
from beans_exp.hpo.trial_attrs import HEARTBEAT, ORIGIN, OWNER
from tests.hpo.studies import journal_url, open_test_study, sqlite_url

ASK_AND_DIE = """
import os, sys
from tests.hpo.studies import open_test_study
with open_test_study(sys.argv[1]) as study:
    print(study.ask().params, flush=True)
    os._exit(1)
"""


@pytest.fixture
def url() -> str:
    return sqlite_url()


def _ask_and_die(url: str) -> str:
    """Ask for a trial in a process that dies with it; return the trial's parameters."""
    root = Path(__file__).parents[2]
    variables = os.environ | {"PYTHONPATH": str(root)}
    return subprocess.run(
        [sys.executable, "-c", ASK_AND_DIE, url], capture_output=True, text=True, env=variables
    ).stdout


def _states(study: SharedStudy) -> list[TrialState]:
    return [trial.state for trial in study.counted]


def test_a_dead_processs_point_is_retried_once(url: str) -> None:
    point = _ask_and_die(url).strip()
    assert point
    with open_test_study(url) as study:
        assert _states(study) == [TrialState.RUNNING]
        (dead,) = study.leases.close_abandoned()
        assert study.counted == [], "a retried trial does not count"
        retry = study.ask()
        assert str(retry.params) == point
        retry.set_user_attr(OWNER, dead.user_attrs[OWNER])
        study.leases.release(retry)
    with open_test_study(url) as study:
        assert _states(study) == [TrialState.RUNNING]
        study.leases.close_abandoned()
        assert _states(study) == [TrialState.FAIL], "no second retry"
        assert str(study.ask().params) != point


def test_a_living_processs_trial_is_kept_and_a_silent_ones_is_closed() -> None:
    url = journal_url()
    with open_test_study(url) as other, open_test_study(url) as study:
        trial = other.ask()
        study.leases.close_abandoned()
        assert _states(study) == [TrialState.RUNNING]
        trial.set_user_attr(OWNER, "another-host/boot/1/2/3")
        for beat in range(2 * MAX_MISSED):  # by a clock that is wrong by decades
            trial.set_user_attr(HEARTBEAT, float(beat))
            study.leases.count_missed()
        assert study.leases.close_abandoned() == []
        for _ in range(MAX_MISSED):
            study.leases.count_missed()
        assert [dead.number for dead in study.leases.close_abandoned()] == [0]
        assert study.study.get_trials()[0].state == TrialState.FAIL
        other.leases.release(trial)


def test_renewed_trials_are_not_silent() -> None:
    url = journal_url()
    with open_test_study(url) as other, open_test_study(url) as study:
        trial = other.ask()
        trial.set_user_attr(OWNER, "another-host/boot/1/2/3")
        for _ in range(2 * MAX_MISSED):
            other.leases.renew()
            study.leases.count_missed()
        assert study.leases.close_abandoned() == []


def test_a_trial_presumed_dead_is_not_ended_by_its_owner() -> None:
    url = journal_url()
    with open_test_study(url) as owner, open_test_study(url) as other:
        trial = owner.ask()
        trial.set_user_attr(OWNER, "another-host/boot/1/2/3")
        for _ in range(MAX_MISSED + 1):
            other.leases.count_missed()
        other.leases.close_abandoned()
        assert owner.has_ended(trial)
        owner.tell(trial, 0.5, TrialState.COMPLETE)
        assert other.study.get_trials()[0].state == TrialState.FAIL


def test_interrupted_trials_are_retried_however_often(url: str) -> None:
    points = []
    for _ in range(3):
        with suppress(KeyboardInterrupt), open_test_study(url) as study:
            points.append(study.ask().params)
            raise KeyboardInterrupt
    with open_test_study(url) as study:
        trial = study.ask()
        assert [trial.params] * 3 == points and trial.user_attrs[ORIGIN] == "retry of trial 2"
