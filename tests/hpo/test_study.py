"""A search's study and a trial's side of it: found again or refused, cleared of the dead, pruned after an epoch."""

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy.exc
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from beans_exp.errors import ConfigError, PrunedError, StoreError
from beans_exp.hpo.pruning import TrialHandle, can_prune, epoch_reporter
from beans_exp.hpo.storage import absolute_storage
from beans_exp.hpo.study import (
    BEAT,
    MISSED_BEATS,
    ORIGIN,
    OWNER,
    Search,
    SharedStudy,
    lost_storage_as_error,
    one_at_a_time,
    open_study,
)
from beans_exp.processes import is_dead, this_process
from beans_exp.schema import CONF, Config, FinetuneConfig, ObjectiveConfig, SweepConfig, TrainerConfig
from beans_exp.sweep.search import Options, _Loop
from tests.servers import postgres

SPACE: dict[str, Any] = {"finetune.blocks": IntDistribution(0, 11), "reg.dropout": FloatDistribution(0, 0.5)}
SEARCH = Search(SPACE, {"data": "noise 1", "objective": "maximize val/accuracy"}, ["maximize"])
RANDOM = {"_target_": "optuna.samplers.RandomSampler", "seed": 0}
MEDIAN = {"_target_": "optuna.pruners.MedianPruner", "n_startup_trials": 2, "n_warmup_steps": 0}


@pytest.fixture
def url() -> str:
    return f"sqlite:///{Path('deep/optuna.db').resolve()}"


def _open(url: str, search: Search = SEARCH, sampler: dict[str, Any] = RANDOM) -> SharedStudy:
    return open_study(url, "name", search, sampler)


def test_the_same_search_finds_its_study_and_draws_on(url: str) -> None:
    drawn = []
    for _ in range(2):
        with _open(url) as study:
            for _ in range(2):
                trial = study.ask()
                drawn.append(tuple(trial.params.values()))
                study.tell(trial, 0.5, TrialState.COMPLETE)
    assert len(study.counted) == 4
    assert len(set(drawn)) == 4, "a sampler that starts anew does not repeat itself"


def test_machines_that_find_an_empty_database_at_once_all_open_the_study() -> None:
    machines = 6
    ready = threading.Barrier(machines)

    def open_at_once(address: str) -> int:
        ready.wait()
        with _open(address) as study:
            return study.ask().number

    with postgres() as database, ThreadPoolExecutor(machines) as pool:
        numbers = list(pool.map(open_at_once, [f"{database}/optuna"] * machines))
    assert len(set(numbers)) == machines, "a trial each; those given up at an end may be drawn again in between"


@pytest.mark.parametrize("kind", ["TPESampler", "RandomSampler", "CmaEsSampler", "NSGAIISampler"])
def test_what_is_drawn_hangs_on_the_trials_number_not_on_who_asks(kind: str, tmp_path: Path) -> None:
    sampler = {"_target_": f"optuna.samplers.{kind}", "seed": 3}
    alone, shared = (f"sqlite:///{tmp_path / name}" for name in ("alone.db", "shared.db"))
    with _open(alone, sampler=sampler) as study:
        expected = [study.ask().params for _ in range(4)]
    with _open(shared, sampler=sampler) as one, _open(shared, sampler=sampler) as other:
        drawn = [study.ask().params for study in (one, other, other, one)]
    assert drawn == expected
    assert len({tuple(params.values()) for params in drawn}) == 4


@pytest.mark.parametrize("kind", sorted(file.stem for file in (CONF / "hydra/sweeper/sampler").glob("*.yaml")))
def test_every_sampler_that_ships_searches(kind: str, url: str) -> None:
    sampler = yaml.safe_load((CONF / f"hydra/sweeper/sampler/{kind}.yaml").read_text())
    searched: dict[str, Any] = {
        "kernel": CategoricalDistribution(["k3", "k5"]),
        "finetune.blocks": IntDistribution(0, 11),
        "reg.dropout": FloatDistribution(0, 0.5, step=0.1),
    }
    for _ in range(2):
        with _open(url, replace(SEARCH, space=searched), sampler) as study:
            for _ in range(5):
                trial = study.ask()
                study.tell(trial, trial.params["reg.dropout"], TrialState.COMPLETE)
    points = {tuple(trial.params.values()) for trial in study.counted}
    assert len(study.counted) == 10 and len(points) > 6, "it does not begin anew"


@pytest.mark.parametrize("kind", sorted(file.stem for file in (CONF / "hydra/sweeper/pruner").glob("*.yaml")))
def test_every_pruner_that_ships_judges_a_run(kind: str, url: str) -> None:
    words = ["hydra/sweeper=optuna", f"hydra/sweeper/pruner={kind}"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        composed = compose("config", words, return_hydra_config=True)
    pruner = OmegaConf.to_container(composed.hydra.sweeper.pruner, resolve=True)
    ended = {}
    with _open(url) as study:
        for value in [0.9] * 8 + [0.1] * 3:
            trial = study.ask()
            report = epoch_reporter(_config(url, trial, pruner=pruner))
            try:
                for number in range(1, 13):
                    report(number, _epoch(value - number / 1000), 0)
            except PrunedError:
                ended[trial.number] = number
                study.tell(trial, None, TrialState.PRUNED)
            else:
                study.tell(trial, value, TrialState.COMPLETE)
    assert bool(ended) == (kind != "none"), "those that fall behind, once enough are there to compare with"


@pytest.mark.parametrize(
    ("search", "lines"),
    [
        (replace(SEARCH, space=SPACE | {"finetune.blocks": IntDistribution(0, 6)}), ["int 0..11 before, int 0..6 now"]),
        (replace(SEARCH, space={"seed": IntDistribution(0, 1)}), ["seed: not searched before", "reg.dropout: "]),
        (replace(SEARCH, facts=SEARCH.facts | {"data": "noise 2"}), ["data: noise 1 before, noise 2 now"]),
        (replace(SEARCH, directions=["minimize"]), ["directions: maximize before, directions: minimize now"]),
    ],
)
def test_another_search_under_the_name_is_refused_with_the_difference(
    search: Search, lines: list[str], url: str
) -> None:
    with _open(url):
        pass
    with pytest.raises(ConfigError, match="searches something else") as caught:
        _open(url, search)
    assert all(line in str(caught.value) for line in lines)
    assert len(optuna.get_all_study_names(url)) == 1


@pytest.mark.parametrize(
    "url", ["sqlite:////proc/nowhere/optuna.db", "postgresql://nobody@127.0.0.1:9/none", "gibberish"]
)
def test_a_storage_that_cannot_be_used(url: str) -> None:
    with pytest.raises(StoreError, match=r"hydra\.sweeper\.storage: .* cannot be used"):
        _open(url)


ASK_AND_DIE = """
import os, sys
from tests.test_study import _open
with _open(sys.argv[1]) as study:
    print(study.ask().params, flush=True)
    os._exit(1)
"""


def _die(url: str) -> str:
    words = [sys.executable, "-c", ASK_AND_DIE, url]
    root = Path(__file__).parents[2]
    return subprocess.run(words, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(root)}).stdout


def test_a_dead_processs_point_is_tried_once_more(url: str) -> None:
    point = _die(url)
    assert point
    with _open(url) as study:
        assert [trial.state for trial in study.counted] == [TrialState.RUNNING]
        study.close_dead()
        assert study.counted == [], "it does not count: it is tried again"
    assert _die(url) == point
    with _open(url) as study:
        study.close_dead()
        assert [trial.state for trial in study.counted] == [TrialState.FAIL], "and not a third time"
        assert str(study.ask().params) != point


def test_a_living_processs_trial_is_left_alone_and_a_silent_one_is_not(url: str) -> None:
    with _open(url) as other, _open(url) as study:
        trial = other.ask()
        study.close_dead()
        assert study.counted[0].state == TrialState.RUNNING
        trial.set_user_attr(OWNER, "another-host/boot/1/2/3")
        for beat in range(2 * MISSED_BEATS):  # by a clock that is wrong by decades
            trial.set_user_attr(BEAT, float(beat))
            study.listen()
        assert study.close_dead() == []
        for _ in range(MISSED_BEATS):
            study.listen()
        assert [dead.number for dead in study.close_dead()] == [0]
        assert study.study.get_trials()[0].state == TrialState.FAIL
        other.mine.clear()


def test_a_trial_too_many_is_taken_back(url: str) -> None:
    with _open(url) as study:
        study.withdraw(study.ask())
        assert study.counted == [] and study.study.get_trials()[0].state == TrialState.FAIL


def test_what_follows_a_search_is_done_by_one_process_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("beans_exp.hpo.study.WAIT_SECONDS", 0.01)
    order: list[str] = []
    with _open(absolute_storage("journal:///shared.log")) as study:

        def follow() -> None:
            with one_at_a_time(study):
                order.append("second")

        with one_at_a_time(study):
            waiting = threading.Thread(target=follow)
            waiting.start()
            time.sleep(0.3)
            order.append("first")
        waiting.join()
    assert order == ["first", "second"]


def test_an_interrupt_leaves_its_trials_to_whoever_goes_on_however_often(url: str) -> None:
    points = []
    for _ in range(3):
        with suppress(KeyboardInterrupt), _open(url) as study:
            points.append(study.ask().params)
            raise KeyboardInterrupt
    with _open(url) as study:
        trial = study.ask()
        assert [trial.params] * 3 == points and trial.user_attrs[ORIGIN] == "retry of trial 2"


@pytest.mark.parametrize("kind", ["GridSampler", "BruteForceSampler"])
def test_every_point_of_a_grid_and_no_more_also_after_an_interrupt(kind: str, url: str) -> None:
    search = replace(SEARCH, space={"finetune.blocks": IntDistribution(0, 3)})
    sampler = {"_target_": f"optuna.samplers.{kind}", "seed": 0}
    told = []
    for interrupted_at in (2, 1, 9):
        with suppress(KeyboardInterrupt), _open(url, search, sampler) as study:
            for count in range(9):
                if study.exhausted:
                    break
                trial = study.ask()
                if count == interrupted_at:
                    raise KeyboardInterrupt
                study.tell(trial, 0.5, TrialState.COMPLETE)
                told.append(trial.params["finetune.blocks"])
    assert sorted(told) == [0, 1, 2, 3]
    with _open(url, search, sampler) as study:
        assert study.exhausted, "the same command draws no point again"


def test_a_trial_that_another_machine_took_for_dead_costs_its_owner_nothing(url: str) -> None:
    with _open(url) as owner, _open(url) as other:
        trial = owner.ask()
        report = epoch_reporter(_config(url, trial))
        report(1, _epoch(0.5), 0)
        other._give_up(other.study.get_trials()[0], again=True)
        report(2, _epoch(0.5), 0)
        assert owner.has_ended(trial)
        owner.tell(trial, 0.5, TrialState.COMPLETE)
        assert other.study.get_trials()[0].state == TrialState.FAIL


def test_a_study_that_is_away_costs_a_run_its_report_alone(url: str, caplog: pytest.LogCaptureFixture) -> None:
    with _open(url) as study:
        report = epoch_reporter(_config(url, study.ask()))
    Path(url.removeprefix("sqlite:///")).write_bytes(b"no database any more " * 1000)
    report(1, _epoch(0.5), 0)
    report(2, _epoch(0.5), 0)
    assert "epoch 1 was not reported to the study" in caplog.text


def test_a_storage_that_is_lost_is_named(url: str) -> None:
    with pytest.raises(StoreError, match=r"was lost .*The same command goes on"), lost_storage_as_error(url):
        raise sqlalchemy.exc.OperationalError("select", {}, Exception("server closed the connection"))


def test_a_trial_that_its_sweep_took_with_it_is_no_failure_of_the_search(url: str) -> None:
    with _open(url) as study:
        loop = _Loop(Options(sampler=RANDOM, pruner=None), None, study, None, False)  # type: ignore[arg-type]
        study.ask()
        study._give_up(study.study.get_trials()[0], again=False)
        assert [trial.state for trial in study.counted] == [TrialState.FAIL]
        assert not loop._too_many_failed
        loop._fail(study.ask(), "its job raised")
        assert loop._too_many_failed


def test_processes_are_told_apart() -> None:
    assert not is_dead(this_process())
    here, _, started = this_process().rsplit("/", 2)
    assert is_dead(f"{here}/1/{started}"), "the number was given to another process"
    assert is_dead(f"{here}/999999999/{started}")
    assert not is_dead(f"elsewhere/boot/1/999999999/{started}"), "nothing is known of other machines"


# ---- a trial's side


def _config(url: str, trial: optuna.Trial, **given: Any) -> Config:
    study = TrialHandle(url, "name", trial._trial_id, given.get("pruner", MEDIAN), given.get("seconds"))
    trainer = TrainerConfig(select=given.get("select", "last"))
    return Config(sweep=SweepConfig(study=study.dumps()), trainer=trainer)


def _with_good_trials(url: str) -> optuna.Study:
    with _open(url) as study:
        for _ in range(3):
            trial = study.ask()
            for step in (1, 2, 3):
                trial.report(0.8, step)
            study.tell(trial, 0.8, TrialState.COMPLETE)
    return study.study


def _epoch(accuracy: float, stage: int = 1, seconds: float = 1) -> dict[str, float]:
    return {"val/accuracy": accuracy, "stage": stage, "time/epoch_seconds": seconds}


def test_a_trial_below_the_median_ends_after_its_second_epoch(url: str) -> None:
    trial = _with_good_trials(url).ask(SPACE)
    report = epoch_reporter(_config(url, trial))
    report(1, _epoch(0.1), 0)
    with pytest.raises(PrunedError, match="pruned after epoch 2 of stage 1"):
        report(2, _epoch(0.1), 0)
    seen = optuna.load_study(study_name="name", storage=url).trials[-1]
    assert seen.intermediate_values == {1: 0.1, 2: 0.1}


def test_a_trial_that_tunes_is_not_judged_by_its_head(url: str) -> None:
    trial = _with_good_trials(url).ask(SPACE)
    report = epoch_reporter(replace(_config(url, trial), finetune=FinetuneConfig(blocks=2)))
    report(1, _epoch(0.1), 0)
    report(2, _epoch(0.1), 0)
    report(1, _epoch(0.9, stage=2), 0)
    assert optuna.load_study(study_name="name", storage=url).trials[-1].intermediate_values == {1: 0.9}


@pytest.mark.parametrize("tunes", [True, False])
def test_a_head_alone_is_judged_unless_the_search_tunes(url: str, tunes: bool) -> None:
    trial = _with_good_trials(url).ask(SPACE)
    study = TrialHandle(url, "name", trial._trial_id, MEDIAN, None, tunes)
    epoch_reporter(Config(sweep=SweepConfig(study=study.dumps())))(1, _epoch(0.1), 0)
    assert bool(optuna.load_study(study_name="name", storage=url).trials[-1].intermediate_values) != tunes


@pytest.mark.parametrize("name", ["gap/accuracy", ["model/parameters", "val/accuracy"]])
def test_an_objective_that_no_epoch_has_is_not_reported(url: str, name: str | list[str]) -> None:
    trial = _with_good_trials(url).ask(SPACE)
    direction = "minimize" if isinstance(name, str) else ["minimize", "maximize"]
    report = epoch_reporter(replace(_config(url, trial), objective=ObjectiveConfig(name, direction)))
    report(1, _epoch(0.1), 0)
    assert not optuna.load_study(study_name="name", storage=url).trials[-1].intermediate_values


def test_the_best_epoch_so_far_counts_where_it_is_kept(url: str) -> None:
    trial = _with_good_trials(url).ask(SPACE)
    report = epoch_reporter(_config(url, trial, select="best"))
    report(1, _epoch(0.9), 0)
    report(2, _epoch(0.1), 0)
    assert optuna.load_study(study_name="name", storage=url).trials[-1].intermediate_values == {1: 0.9, 2: 0.9}


def test_what_is_reported_is_of_the_epoch_that_is_kept(url: str) -> None:
    trial = _with_good_trials(url).ask(SPACE)
    config = replace(_config(url, trial, select="best"), objective=ObjectiveConfig("val/loss", "minimize"))
    report = epoch_reporter(config)
    for number, (accuracy, loss) in enumerate([(0.5, 1.0), (0.4, 0.1), (0.6, 2.0)], start=1):
        with suppress(PrunedError):
            report(number, _epoch(accuracy) | {"val/loss": loss}, 0)
    seen = optuna.load_study(study_name="name", storage=url).trials[-1].intermediate_values
    assert seen == {1: 1.0, 2: 1.0, 3: 2.0}, "not the lowest loss: that epoch is not the best one"


def test_a_resumed_run_reports_no_epoch_twice(url: str) -> None:
    trial = _with_good_trials(url).ask(SPACE)
    for _ in range(2):
        report = epoch_reporter(_config(url, trial))
        report(1, _epoch(0.9), 0)
    assert optuna.load_study(study_name="name", storage=url).trials[-1].intermediate_values == {1: 0.9}


def test_a_trial_that_takes_too_long_is_pruned(url: str) -> None:
    trial = _with_good_trials(url).ask(SPACE)
    report = epoch_reporter(_config(url, trial, pruner=None, seconds=300))
    with pytest.raises(PrunedError, match=r"its epochs take 301 seconds \(hydra.sweeper.trial_seconds=300\)"):
        report(1, _epoch(0.9, seconds=301), 0)


def test_a_trial_that_would_take_too_long_is_pruned_when_its_pace_shows(url: str) -> None:
    trial = _with_good_trials(url).ask(SPACE)
    report = epoch_reporter(_config(url, trial, pruner=None, seconds=300))
    report(1, _epoch(0.9), 900)
    report(2, _epoch(0.9), 200)
    report(1, _epoch(0.9, stage=2), 900)
    with pytest.raises(PrunedError, match="pruned after epoch 2 of stage 2: its epochs take 504 seconds"):
        report(2, _epoch(0.9, stage=2), 500)


def test_without_a_study_nothing_is_reported() -> None:
    epoch_reporter(Config())(1, {}, 0)


@pytest.mark.parametrize(
    ("names", "pruned"),
    [
        ("val/accuracy", True),
        ("best/val_accuracy", True),
        ("gap/accuracy", False),
        (["val/accuracy", "model/macs"], False),
    ],
)
def test_what_can_be_pruned(names: Any, pruned: bool) -> None:
    directions = {"gap/accuracy": "minimize", "val/accuracy": "maximize", "best/val_accuracy": "maximize"}
    direction = ["maximize", "minimize"] if isinstance(names, list) else directions[names]
    assert can_prune(Config(objective=ObjectiveConfig(names, direction))) is pruned
