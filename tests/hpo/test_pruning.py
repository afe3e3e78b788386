"""A run's side of a search: epochs are reported to the trial, and a trial that falls behind or is slow is pruned."""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from optuna.trial import TrialState

from beans_exp.errors import PrunedError
from beans_exp.hpo.leases import MAX_MISSED
from beans_exp.hpo.pruning import Report, TrialHandle, can_prune, epoch_reporter
from beans_exp.hpo.storage import open_storage
from beans_exp.hpo.study import SharedStudy
from beans_exp.hpo.trial_attrs import OWNER
from beans_exp.schema import CONF, Config, FinetuneConfig, ObjectiveConfig, SweepConfig, TrainerConfig
from tests.hpo.studies import NAME, journal_url, open_test_study, sqlite_url

MEDIAN = {"_target_": "optuna.pruners.MedianPruner", "n_startup_trials": 2, "n_warmup_steps": 0}


def _config(trial: optuna.Trial, url: str | None = None, **given: Any) -> Config:
    pruner, seconds, tunes = given.get("pruner", MEDIAN), given.get("seconds"), given.get("tunes", False)
    handle = TrialHandle.of(trial, url or journal_url(), pruner, seconds=seconds, tunes=tunes)
    trainer = TrainerConfig(select=given.get("select", "last"))
    return Config(sweep=SweepConfig(study=handle.dumps()), trainer=trainer)


def _epoch(accuracy: float, stage: int = 1, seconds: float = 1) -> dict[str, float]:
    return {"val/accuracy": accuracy, "stage": stage, "time/epoch_seconds": seconds}


@pytest.fixture
def trial() -> optuna.Trial:
    """A trial beside three whose epochs all had 0.8."""
    study = open_test_study(journal_url())
    for _ in range(3):
        good = study.ask()
        for step in (1, 2, 3):
            good.report(0.8, step)
        study.tell(good, 0.8, TrialState.COMPLETE)
    return study.ask()


def _reported() -> dict[int, float]:
    """What the storage holds of the last trial."""
    study = optuna.load_study(study_name=NAME, storage=open_storage(journal_url()))
    return study.trials[-1].intermediate_values


def test_a_trial_below_the_median_ends_after_its_second_epoch(trial: optuna.Trial) -> None:
    report = epoch_reporter(_config(trial))
    report(1, _epoch(0.1), 0)
    with pytest.raises(PrunedError, match="pruned after epoch 2 of stage 1: other trials were better at this epoch"):
        report(2, _epoch(0.1), 0)
    assert _reported() == {1: 0.1, 2: 0.1}


def test_a_trial_that_tunes_is_not_compared_by_its_head(trial: optuna.Trial) -> None:
    report = epoch_reporter(replace(_config(trial), finetune=FinetuneConfig(blocks=2)))
    report(1, _epoch(0.1), 0)
    report(2, _epoch(0.1), 0)
    report(1, _epoch(0.9, stage=2), 0)
    assert _reported() == {1: 0.9}


@pytest.mark.parametrize("tunes", [True, False])
def test_a_run_without_tuning_is_compared_unless_the_search_tunes(trial: optuna.Trial, tunes: bool) -> None:
    epoch_reporter(_config(trial, tunes=tunes))(1, _epoch(0.1), 0)
    assert bool(_reported()) != tunes


@pytest.mark.parametrize("name", ["gap/accuracy", ["model/parameters", "val/accuracy"]])
def test_an_objective_that_is_not_measured_per_epoch_is_not_reported(trial: optuna.Trial, name: Any) -> None:
    direction = "minimize" if isinstance(name, str) else ["minimize", "maximize"]
    report = epoch_reporter(replace(_config(trial), objective=ObjectiveConfig(name, direction)))
    report(1, _epoch(0.1), 0)
    assert not _reported()


def test_the_best_epoch_so_far_is_reported_if_it_is_selected(trial: optuna.Trial) -> None:
    report = epoch_reporter(_config(trial, select="best"))
    report(1, _epoch(0.9), 0)
    report(2, _epoch(0.1), 0)
    assert _reported() == {1: 0.9, 2: 0.9}


def test_the_reported_value_belongs_to_the_selected_epoch(trial: optuna.Trial) -> None:
    config = replace(_config(trial, select="best"), objective=ObjectiveConfig("val/loss", "minimize"))
    report = epoch_reporter(config)
    for number, (accuracy, loss) in enumerate([(0.5, 1.0), (0.4, 0.1), (0.6, 2.0)], start=1):
        with suppress(PrunedError):
            report(number, _epoch(accuracy) | {"val/loss": loss}, 0)
    assert _reported() == {1: 1.0, 2: 1.0, 3: 2.0}, "not the lowest loss: that epoch is not the best one"


def test_a_resumed_run_reports_no_epoch_twice(trial: optuna.Trial) -> None:
    for _ in range(2):
        epoch_reporter(_config(trial))(1, _epoch(0.9), 0)
    assert _reported() == {1: 0.9}


def test_a_slow_trial_is_pruned(trial: optuna.Trial) -> None:
    report = epoch_reporter(_config(trial, pruner=None, seconds=300))
    with pytest.raises(PrunedError, match=r"its epochs take 301 seconds \(hydra.sweeper.trial_seconds=300\)"):
        report(1, _epoch(0.9, seconds=301), 0)


def test_a_trial_is_pruned_once_its_pace_is_too_slow(trial: optuna.Trial) -> None:
    report = epoch_reporter(_config(trial, pruner=None, seconds=300))
    report(1, _epoch(0.9), 900)
    report(2, _epoch(0.9), 200)
    report(1, _epoch(0.9, stage=2), 900)
    with pytest.raises(PrunedError, match="pruned after epoch 2 of stage 2: its epochs take 504 seconds"):
        report(2, _epoch(0.9, stage=2), 500)


def test_a_run_outside_of_a_search_reports_nothing() -> None:
    epoch_reporter(Config())(1, {}, 0)


def test_a_run_continues_after_another_machine_presumed_its_trial_dead() -> None:
    url = journal_url()
    with open_test_study(url) as owner, open_test_study(url) as other:
        trial = owner.ask()
        report = epoch_reporter(_config(trial))
        report(1, _epoch(0.5), 0)
        trial.set_user_attr(OWNER, "another-host/boot/1/2/3")
        for _ in range(MAX_MISSED + 1):
            other.leases.count_missed()
        assert other.leases.close_abandoned()
        report(2, _epoch(0.5), 0)


def test_a_run_continues_without_a_reachable_study(caplog: pytest.LogCaptureFixture) -> None:
    url = sqlite_url()
    with open_test_study(url) as study:
        report = epoch_reporter(_config(study.ask(), url))
    Path(url.removeprefix("sqlite:///")).write_bytes(b"not a database " * 1000)
    report(1, _epoch(0.5), 0)
    report(2, _epoch(0.5), 0)
    assert "epoch 1 was not reported to the study" in caplog.text


@pytest.mark.parametrize("kind", sorted(file.stem for file in (CONF / "hydra/sweeper/pruner").glob("*.yaml")))
def test_every_shipped_pruner_except_none_prunes(kind: str) -> None:
    words = ["hydra/sweeper=optuna", f"hydra/sweeper/pruner={kind}"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        composed = compose("config", words, return_hydra_config=True)
    pruner = OmegaConf.to_container(composed.hydra.sweeper.pruner, resolve=True)
    with open_test_study(journal_url()) as study:
        pruned = [_is_pruned(study, value, pruner) for value in [0.9] * 8 + [0.1] * 3]
    assert any(pruned) == (kind != "none"), "trials that fall behind, once there are enough to compare with"


def _is_pruned(study: SharedStudy, value: float, pruner: Any) -> bool:
    """Run a trial of twelve epochs around `value`; return whether it was pruned."""
    trial = study.ask()
    report: Report = epoch_reporter(_config(trial, pruner=pruner))
    try:
        for number in range(1, 13):
            report(number, _epoch(value - number / 1000), 0)
    except PrunedError:
        study.tell(trial, None, TrialState.PRUNED)
        return True
    study.tell(trial, value, TrialState.COMPLETE)
    return False


@pytest.mark.parametrize(
    ("names", "pruned"),
    [
        ("val/accuracy", True),
        ("best/val_accuracy", True),
        ("gap/accuracy", False),
        (["val/accuracy", "model/macs"], False),
    ],
)
def test_only_a_single_objective_measured_per_epoch_can_be_pruned(names: Any, pruned: bool) -> None:
    directions = {"gap/accuracy": "minimize", "val/accuracy": "maximize", "best/val_accuracy": "maximize"}
    direction = ["maximize", "minimize"] if isinstance(names, list) else directions[names]
    assert can_prune(Config(objective=ObjectiveConfig(names, direction))) is pruned
