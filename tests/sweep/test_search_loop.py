"""The loop of a search, with jobs that end at once: equal trials run once, and every result reaches the study."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from hydra.core.utils import JobReturn, JobStatus
from optuna.distributions import IntDistribution
from optuna.trial import TrialState, create_trial

from beans_exp.errors import ConfigError, PrunedError, TooSlowError
from beans_exp.hpo.leases import MAX_MISSED
from beans_exp.hpo.study import SharedStudy, StudyDescription, open_study
from beans_exp.hpo.trial_attrs import CAUSE, FINGERPRINT, ORIGIN, OWNER, RUN, TOO_SLOW
from beans_exp.launcher.diagnosis import JobError
from beans_exp.processes import this_process
from beans_exp.schema import Config
from beans_exp.sweep.equal_trials import must_wait
from beans_exp.sweep.point import Point
from beans_exp.sweep.search_loop import SearchLoop
from beans_exp.sweep.search_options import SearchOptions
from beans_exp.sweep.search_verdict import judge, too_many_failed
from tests.hpo.studies import RANDOM, journal_url

SPACE: dict[str, Any] = {"seed": IntDistribution(0, 9)}
SEARCH = StudyDescription(SPACE, {}, ["maximize"])


def _options(n_trials: int = 3, **given: Any) -> SearchOptions:
    return SearchOptions(sampler=RANDOM, pruner=None, n_trials=n_trials, **given)


@pytest.fixture
def study() -> Iterator[SharedStudy]:
    with open_study(journal_url(), "name", SEARCH, RANDOM) as opened:
        yield opened


class _Composer:
    """Points that are all equal, or none of which can run."""

    def __init__(self, error: ConfigError | None = None) -> None:
        self.error = error

    def point(self, params: Mapping[str, Any]) -> Point:
        if self.error is not None:
            raise self.error
        return Point([], Config(), "mark", [], precision_was_auto=False)


@dataclass
class _Jobs:
    """Jobs with room for two, which end in order with the next of `results`: a value, or an exception."""

    results: list[float | Exception]
    running: list[int] = field(default_factory=list)
    started: int = 0
    finished: float | None = None
    closed: list[str] = field(default_factory=list)

    @property
    def has_room(self) -> bool:
        return len(self.running) < 2

    def start(self, point: Point, study: str) -> int:
        self.running.append(self.started)
        self.started += 1
        return self.running[-1]

    def wait(self) -> list[tuple[int, JobReturn]]:
        value = self.results.pop(0)
        if isinstance(value, Exception):
            result = JobReturn(status=JobStatus.FAILED)
        else:
            result, self.finished = JobReturn(status=JobStatus.COMPLETED), value
        result.return_value = value
        return [(self.running.pop(0), result)]

    def reuse(self, point: Point) -> list[float] | None:
        return None if self.finished is None else [self.finished]

    def run_id(self, fingerprint: str) -> str:
        return f"run of {fingerprint}"

    def close_run(self, fingerprint: str, cause: JobError) -> None:
        self.closed.append(fingerprint)


def _run(study: SharedStudy, jobs: _Jobs, options: SearchOptions, composer: _Composer | None = None) -> None:
    SearchLoop(options, composer or _Composer(), study, jobs, tunes=False).run()  # type: ignore[arg-type]


def test_equal_trials_wait_for_the_first_and_reuse_its_run(
    study: SharedStudy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = _Jobs([0.25])
    _run(study, jobs, _options(3))
    assert jobs.started == 1
    assert [trial.value for trial in study.counted] == [0.25] * 3
    assert [trial.user_attrs.get(ORIGIN) for trial in study.counted] == [None, "reused", "reused"]
    assert {trial.user_attrs[RUN] for trial in study.counted} == {"run of mark"}
    assert "trial 1: 0.2500 (reused)  seed=" in capsys.readouterr().out


@pytest.mark.parametrize(("error", "slow"), [(PrunedError("worse"), False), (TooSlowError("slow"), True)])
def test_equal_trials_are_pruned_like_the_first(study: SharedStudy, error: Exception, slow: bool) -> None:
    jobs = _Jobs([error])
    _run(study, jobs, _options(2))
    assert jobs.started == 1
    assert [trial.state for trial in study.counted] == [TrialState.PRUNED] * 2
    assert [trial.user_attrs[TOO_SLOW] for trial in study.counted] == [slow] * 2
    assert study.counted[1].user_attrs[ORIGIN] == "equal to trial 0"


def test_a_search_ends_once_too_many_trials_have_failed(study: SharedStudy, capsys: pytest.CaptureFixture[str]) -> None:
    options = _options(9, max_failure_rate=0.12)
    _run(study, _Jobs([JobError("oom", "out of memory"), ValueError("bad"), 0.5]), options)
    causes = [trial.user_attrs.get(CAUSE) for trial in study.counted]
    assert causes == ["out of memory", "ValueError: bad", None], "only the trial that was waiting still starts"
    assert not judge(study.counted, options)
    printed = capsys.readouterr().out
    assert "search failed: 2 trials failed (hydra.sweeper.max_failure_rate=0.12)" in printed
    assert "  ValueError: bad\n  out of memory" in printed


def test_failures_of_earlier_commands_are_tried_again_by_the_same_command(
    study: SharedStudy, capsys: pytest.CaptureFixture[str]
) -> None:
    here, _, started = this_process().rsplit("/", 2)
    attrs = {OWNER: f"{here}/999999999/{started}", CAUSE: "the disk was full"}
    study.study.add_trial(
        create_trial(state=TrialState.FAIL, params={"seed": 3}, distributions=SPACE, user_attrs=attrs)
    )
    assert too_many_failed(study.counted, _options())
    _run(study, _Jobs([ValueError("again"), 0.5]), _options(2))
    again = study.counted[0]
    assert (again.params["seed"], again.user_attrs[CAUSE]) == (3, "ValueError: again")
    assert again.user_attrs[ORIGIN] == "retry of trial 0" and len(study.counted) == 2
    assert not judge(study.counted, _options())
    assert "The same command tries them again" in capsys.readouterr().out
    jobs = _Jobs([])
    _run(study, jobs, _options(2))
    assert jobs.started == 0, "failures of this command are left to the next one"


def test_a_point_that_cannot_run_fails_its_trial(study: SharedStudy) -> None:
    _run(study, _Jobs([]), _options(), _Composer(ConfigError("kernel.size=40: must be smaller")))
    assert [trial.user_attrs[CAUSE] for trial in study.counted] == ["kernel.size=40: must be smaller"]


def test_no_trial_starts_after_the_timeout(study: SharedStudy) -> None:
    _run(study, _Jobs([0.5]), _options(timeout=1e-9))
    assert study.counted == []


def test_the_end_of_a_trial_that_was_presumed_dead_is_not_recorded(
    study: SharedStudy, caplog: pytest.LogCaptureFixture
) -> None:
    class Presumed(_Jobs):
        """While the job runs, another machine sees no heartbeat of its trial and closes it."""

        def wait(self) -> list[tuple[int, JobReturn]]:
            storage, (trial,) = study.study, study.study.get_trials(states=[TrialState.RUNNING])
            with open_study(journal_url(), storage.study_name, SEARCH, RANDOM) as other:
                for _ in range(MAX_MISSED + 1):
                    other.leases.count_missed()
                assert [closed.number for closed in other.leases.close_abandoned()] == [trial.number]
            return super().wait()

    with caplog.at_level(logging.WARNING):
        _run(study, Presumed([0.25, 0.5]), _options(1))
    assert "trial 0 was presumed dead by another machine, which is retrying it" in caplog.text
    assert [trial.user_attrs[ORIGIN] for trial in study.counted] == ["reused"]


def test_an_earlier_trial_of_another_process_may_turn_out_to_be_equal(study: SharedStudy) -> None:
    with open_study(journal_url(), "name", SEARCH, RANDOM) as other:
        earlier, trial = other.ask(), study.ask()
        assert must_wait(study, trial, "mark", []), "its point is not drawn yet"
        earlier.set_user_attr(FINGERPRINT, "another")
        assert not must_wait(study, trial, "mark", []) and must_wait(study, trial, "mark", ["mark"])
        earlier.set_user_attr(FINGERPRINT, "mark")
        assert must_wait(study, trial, "mark", [])
        later = other.ask()
        later.set_user_attr(FINGERPRINT, "later")
        assert not must_wait(study, trial, "later", [])


def test_a_trial_that_was_killed_with_its_sweep_is_not_a_failure_of_the_search() -> None:
    killed, failed = (create_trial(state=TrialState.FAIL, user_attrs=attrs) for attrs in ({}, {CAUSE: "raised"}))
    assert not too_many_failed([killed], _options())
    assert too_many_failed([killed, failed], _options())
    assert not too_many_failed([killed, failed], _options(n_trials=2, max_failure_rate=0.5))


def test_a_search_without_a_completed_trial_fails(capsys: pytest.CaptureFixture[str]) -> None:
    pruned, completed = create_trial(state=TrialState.PRUNED), create_trial(value=0.5)
    assert not judge([pruned], _options())
    assert "search failed: no trial completed" in capsys.readouterr().out
    assert judge([pruned, completed], _options())


def test_runs_of_abandoned_trials_are_closed(study: SharedStudy) -> None:
    with open_study(journal_url(), "name", SEARCH, RANDOM) as other:
        trial = other.ask()
        trial.set_user_attr(FINGERPRINT, "abandoned")
        here, _, started = trial.study.trials[0].user_attrs[OWNER].rsplit("/", 2)
        trial.set_user_attr(OWNER, f"{here}/999999999/{started}")
        jobs = _Jobs([0.5])
        _run(study, jobs, _options(1))
        assert jobs.closed == ["abandoned"]
        assert [counted.value for counted in study.counted] == [0.5]
