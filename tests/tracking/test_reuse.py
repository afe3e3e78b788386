"""Which finished runs are reused, and which models of a sweep are saved."""

from dataclasses import replace
from pathlib import Path

import pytest

from beans_exp.metrics import BY_NAME
from beans_exp.run import run
from beans_exp.schema import SweepConfig, TrackingConfig
from beans_exp.tracking.best_model import has_model
from tests.tracking.contract import CONFIG, METRICS, local_runs


def test_a_finished_run_is_reused_unless_if_exists_is_rerun() -> None:
    first = run(CONFIG)
    renamed = replace(CONFIG, reg=replace(CONFIG.reg, name="other"), run_name="again")
    assert run(renamed) == first, "labels do not affect the fingerprint"
    assert len(local_runs()) == 1
    assert run(replace(CONFIG, if_exists="rerun")) == pytest.approx(first, abs=0.2)
    assert len(local_runs()) == 2
    assert local_runs()[0].data.tags["beans.fingerprint"] == local_runs()[1].data.tags["beans.fingerprint"]


def test_a_finished_run_without_a_requested_test_or_model_is_not_reused() -> None:
    lean = replace(CONFIG, tracking=TrackingConfig(save_model="none"), trainer=replace(CONFIG.trainer, test=False))
    run(lean)
    metrics = local_runs()[0].data.metrics
    assert set(metrics) == {name for name in METRICS if not BY_NAME[name].needs_test}
    run(CONFIG)
    assert len(local_runs()) == 2
    run(lean)
    assert len(local_runs()) == 2


def test_reuse_returns_the_selected_epochs_objective() -> None:
    config = replace(CONFIG, trainer=replace(CONFIG.trainer, select="best", epochs=3, learning_rate=0.05))
    assert run(config) == run(config) == local_runs()[0].data.metrics["best/val_accuracy"]


def test_save_model_best_keeps_one_model_of_a_sweep() -> None:
    tracking, sweep = TrackingConfig(save_model="best"), SweepConfig(id="s")
    values = [run(replace(CONFIG, tracking=tracking, sweep=sweep, seed=seed)) for seed in range(3)]
    saved = [done for done in local_runs() if has_model(done)]
    assert [done.data.metrics["val/accuracy"] for done in saved] == [max(values)]
    assert len(list(Path("mlruns/artifacts").rglob("model.keras"))) == 1


def test_runs_that_confirm_a_search_keep_their_models() -> None:
    sweep = SweepConfig(id="s")
    run(replace(CONFIG, sweep=sweep, seed=9))
    for seed in range(2):
        run(replace(CONFIG, tracking=TrackingConfig(save_model="best"), sweep=sweep, seed=seed))
    seeds = [done.data.params["seed"] for done in local_runs() if has_model(done)]
    assert len(seeds) == 2 and "9" in seeds
