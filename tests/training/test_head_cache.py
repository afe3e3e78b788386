"""Heads that are trained once: a fine-tuning run reuses the head of an equal first stage, with equal results."""

import json
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from beans_exp.data import Data
from beans_exp.schema import Config, DataConfig, FeaturesConfig, FinetuneConfig, ModelConfig, RegConfig, TrainerConfig
from beans_exp.training.checkpoint import Checkpoints
from beans_exp.training.head_cache import CachedHead
from beans_exp.training.history import Epoch, History
from beans_exp.training.stages import train
from tests.conftest import SIZE
from tests.shared_models import configured_model


def _config(weights: str, features: str) -> Config:
    return Config(
        model=ModelConfig("inception", weights, "mixed1"),
        data=DataConfig(name="folder", data_dir="images", image_size=SIZE),
        reg=RegConfig(dropout=0.3),
        trainer=TrainerConfig(epochs=2, batch_size=4, learning_rate=1e-3, select="best", deterministic=True),
        finetune=FinetuneConfig(blocks=1, epochs=2, learning_rate=1e-4),
        features=FeaturesConfig(dir=features),
    )


@pytest.fixture
def config(weights: str) -> Config:
    return _config(weights, "features")


@dataclass
class Trained:
    """A finished run."""

    config: Config
    weights: list[np.ndarray]
    history: History


def _train(config: Config, data: Data, run_id: str = "") -> Trained:
    checkpoints = Checkpoints(Path(str(config.features.dir), f"{run_id}.npz"), "mark", run_id) if run_id else None
    model = configured_model(config)
    history = train(model, data, config, lambda epoch: None, checkpoints)
    return Trained(config, model.get_weights(), history)


def _losses(history: History) -> list[float]:
    return [epoch.metrics["train/loss"] for epoch in history.epochs]


def _heads(config: Config) -> list[Path]:
    return list(Path(str(config.features.dir)).glob("head-*.npz"))


@pytest.fixture(scope="module")
def without_reuse(weights: str, data: Data, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A run that trained its own head; the head in its cache is that of the run `frozen`."""
    config = _config(weights, str(tmp_path_factory.mktemp("features")))
    trained = _train(config, data)
    for head in _heads(config):
        head.unlink()
    _train(replace(config, finetune=FinetuneConfig()), data, "frozen")
    return trained


def test_a_reused_head_gives_equal_results(without_reuse: Trained, data: Data) -> None:
    config, history = without_reuse.config, without_reuse.history
    reused = _train(config, data)
    assert (history.head_run, reused.history.head_run) == ("", "frozen")
    assert _losses(reused.history) == _losses(history)
    assert reused.history.summary().keys() == history.summary().keys(), "the cost of the frozen layers is included"
    assert all(np.array_equal(*pair) for pair in zip(reused.weights, without_reuse.weights, strict=True))
    assert sum(head.stat().st_size for head in _heads(config)) < 20_000_000, "heads without their base"


def test_a_killed_run_with_a_reused_head_resumes(
    without_reuse: Trained, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(epoch: Epoch) -> None:
        if epoch.step == 4:
            raise SystemExit

    config = without_reuse.config
    monkeypatch.setattr("beans_exp.training.checkpoint.LONGEST", 0.0)
    file = Path("killed.npz")
    with pytest.raises(SystemExit):
        train(configured_model(config), data, config, die, Checkpoints(file, "mark", "killed"))
    model = configured_model(config)
    resumed = train(model, data, config, lambda epoch: None, Checkpoints.read(file, "mark"))
    assert (resumed.head_run, _losses(resumed)) == ("frozen", _losses(without_reuse.history))
    assert [epoch.head_run for epoch in resumed.epochs] == ["frozen", "frozen", "", ""]
    assert all(np.array_equal(*pair) for pair in zip(model.get_weights(), without_reuse.weights, strict=True))


def _head(config: Config, data: Data) -> CachedHead:
    found = CachedHead.for_run(config, data)
    assert found is not None
    return found


def test_a_head_is_identified_by_everything_that_determines_it(config: Config, data: Data) -> None:
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


def test_a_head_is_not_reused_on_request_or_without_a_second_stage(config: Config, data: Data) -> None:
    assert _head(config, data).may_reuse
    assert not _head(replace(config, if_exists="rerun"), data).may_reuse
    assert not _head(replace(config, finetune=FinetuneConfig()), data).may_reuse, "the head is all that the run trains"
    assert CachedHead.for_run(replace(config, features=FeaturesConfig("off", "features")), data) is None


def test_a_damaged_head_is_removed_with_a_warning(config: Config, data: Data, caplog: pytest.LogCaptureFixture) -> None:
    head = _head(config, data)
    head.file.write_bytes(b"PK\x03\x04 broken")
    with caplog.at_level(logging.WARNING):
        assert head.load(keras.Model()) is None
    assert f"{head.file.name} is damaged" in caplog.text
    assert not head.file.exists()


def test_a_head_of_another_format_is_removed_with_one_line_and_trained_again(
    config: Config, data: Data, caplog: pytest.LogCaptureFixture
) -> None:
    head = _head(config, data)
    facts = {"stage": 1, "stage_best": 0.5, "stalled": 0, "epochs": [{"train/loss": 1.0}] * 2, "features_costs": {}}
    facts |= {"head_run": "", "fingerprint": head.fingerprint, "run_id": "old", "seconds": 3.0}
    arrays: dict[str, Any] = {"facts": np.array(json.dumps(facts)), "model.0": np.ones(3)}
    np.savez(head.file, **arrays)
    with caplog.at_level(logging.INFO):
        history = _train(config, data, "new").history
    lines = [record.getMessage() for record in caplog.records if head.file.name in record.getMessage()]
    assert len(lines) == 1
    assert "was written by another version of beans_exp" in lines[0]
    assert history.head_run == ""
    assert Checkpoints.read(head.file, head.fingerprint).run_id == "new"
