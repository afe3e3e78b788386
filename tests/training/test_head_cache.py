"""Heads trained once: a run that tunes takes the one that an equal first stage left, and ends with the same numbers."""

import logging
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from beans_exp.data import Data
from beans_exp.models import build_model
from beans_exp.schema import Config, DataConfig, FeaturesConfig, FinetuneConfig, ModelConfig, RegConfig, TrainerConfig
from beans_exp.training.checkpoint import Checkpoints
from beans_exp.training.head_cache import CachedHead
from beans_exp.training.history import Epoch, History
from beans_exp.training.stages import configure, train
from tests.conftest import SIZE


@pytest.fixture
def config(weights: str) -> Config:
    return Config(
        model=ModelConfig("inception", weights, "mixed1"),
        data=DataConfig(name="folder", data_dir="images", image_size=SIZE),
        reg=RegConfig(dropout=0.3),
        trainer=TrainerConfig(epochs=2, batch_size=4, learning_rate=1e-3, select="best", deterministic=True),
        finetune=FinetuneConfig(blocks=1, epochs=2, learning_rate=1e-4),
        features=FeaturesConfig(dir="features"),
    )


def _trained(config: Config, data: Data, run_id: str = "") -> tuple[list[np.ndarray], History]:
    configure(config)
    model = build_model(config, 3)
    checkpoints = Checkpoints(Path(f"{run_id}.npz"), "mark", run_id) if run_id else None
    history = train(model, data, config, lambda epoch: None, checkpoints)
    return model.get_weights(), history


def test_a_run_that_took_a_head_and_died_goes_on(config: Config, data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("beans_exp.training.checkpoint.LONGEST", 0.0)
    _trained(config, data, "first")
    weights, history = _trained(config, data)

    def die(epoch: Epoch) -> None:
        if epoch.step == 4:
            raise SystemExit

    configure(config)
    file = Path("died.npz")
    with pytest.raises(SystemExit):
        train(build_model(config, 3), data, config, die, Checkpoints(file, "mark", "died"))
    configure(config)
    model = build_model(config, 3)
    resumed = train(model, data, config, lambda epoch: None, Checkpoints.read(file, "mark"))
    assert (resumed.head_run, _losses(resumed)) == ("first", _losses(history))
    assert [epoch.head_run for epoch in resumed.epochs] == ["first", "first", "", ""]
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(model.get_weights(), weights, strict=True))


def _losses(history: History) -> list[float]:
    return [epoch.metrics["train/loss"] for epoch in history.epochs]


def _heads() -> list[Path]:
    return list(Path("features").glob("head-*.npz"))


def test_a_head_that_is_taken_gives_the_same_run(config: Config, data: Data) -> None:
    weights, history = _trained(config, data)
    for head in _heads():
        head.unlink()
    _trained(replace(config, finetune=FinetuneConfig()), data, "frozen")
    again, taken = _trained(config, data)
    assert (history.head_run, taken.head_run) == ("", "frozen")
    assert _losses(taken) == _losses(history)
    assert taken.summary().keys() == history.summary().keys(), "what the frozen layers cost is counted"
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(again, weights, strict=True))
    assert sum(head.stat().st_size for head in _heads()) < 20_000_000, "heads, not their base"


def _head(config: Config, data: Data) -> CachedHead:
    found = CachedHead.of(config, data)
    assert found is not None
    return found


def test_a_head_is_known_by_what_decides_it(config: Config, data: Data) -> None:
    head = _head(config, data)
    deeper = replace(config, finetune=FinetuneConfig(blocks=2, epochs=1, learning_rate=1e-3))
    assert _head(deeper, data) == head
    for other in (
        replace(config, seed=1),
        replace(config, reg=RegConfig(dropout=0.4)),
        replace(config, trainer=replace(config.trainer, epochs=3)),
        replace(config, model=replace(config.model, top_block="mixed2")),
    ):
        assert _head(other, data).file != head.file


def test_who_asks_for_it_trains_the_head_anew(config: Config, data: Data) -> None:
    assert _head(config, data).is_wanted
    assert not _head(replace(config, if_exists="rerun"), data).is_wanted
    assert not _head(replace(config, finetune=FinetuneConfig()), data).is_wanted, "it is all that the run trains"
    assert CachedHead.of(replace(config, features=FeaturesConfig("off", "features")), data) is None


def test_a_damaged_head_is_a_warning(config: Config, data: Data, caplog: pytest.LogCaptureFixture) -> None:
    head = _head(config, data)
    head.file.write_bytes(b"PK\x03\x04 broken")
    with caplog.at_level(logging.WARNING):
        assert head.read(keras.Model()) is None
    assert f"{head.file.name} is damaged" in caplog.text
