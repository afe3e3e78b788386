"""A run that was interrupted goes on from its checkpoint as if nothing had happened."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from beans_exp.data import Data
from beans_exp.models import build_model
from beans_exp.schema import Config, DataConfig, FeaturesConfig, FinetuneConfig, ModelConfig, RegConfig, TrainerConfig
from beans_exp.training.checkpoint import Checkpoints, State
from beans_exp.training.history import Epoch, History
from beans_exp.training.stages import configure, train
from tests.conftest import SIZE

LENET = Config(
    data=DataConfig(name="folder", data_dir="images", image_size=SIZE),
    reg=RegConfig(dropout=0.3),
    trainer=TrainerConfig(epochs=4, batch_size=4, deterministic=True),
)
STATE = State(1, 0.5, 0, [{"train/loss": 1.0}], {}, {"model": [np.ones(3)], "fitted": [], "optimizer": [], "best": []})


@pytest.fixture(autouse=True)
def _every_epoch_is_kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("beans_exp.training.checkpoint.LONGEST", 0.0)
    yield
    keras.config.set_dtype_policy("float32")


def _interrupted(config: Config, data: Data, after: int, file: Path) -> None:
    """Train `config` until the epoch after the one numbered `after`, which dies before it is kept."""

    def die(epoch: Epoch) -> None:
        if epoch.step > after:
            raise SystemExit

    configure(config)
    with pytest.raises(SystemExit):
        train(build_model(config, 3), data, config, die, Checkpoints(file, "mark"))


def _trained(config: Config, data: Data, checkpoints: Checkpoints | None = None) -> tuple[list[np.ndarray], History]:
    configure(config)
    model = build_model(config, 3)
    history = train(model, data, config, lambda epoch: None, checkpoints)
    return model.get_weights(), history


def _same(ours: History, theirs: History) -> bool:
    def bare(history: History) -> list[dict[str, float]]:
        return [{k: v for k, v in epoch.metrics.items() if k != "time/epoch_seconds"} for epoch in history.epochs]

    return bare(ours) == bare(theirs)


def _resumes(config: Config, data: Data, after: int) -> None:
    weights, history = _trained(config, data)
    for head in Path("features").glob("head-*.npz"):
        head.unlink()  # else stage 1 is not trained again
    file = Path("checkpoint.npz")
    _interrupted(config, data, after, file)
    found = Checkpoints.read(file, "mark")
    assert found.state is not None and len(found.state.epochs) == after
    again, resumed = _trained(config, data, found)
    assert _same(resumed, history), "the curve goes on without a gap"
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(again, weights, strict=True))


@pytest.mark.parametrize(
    "config",
    [
        LENET,
        replace(LENET, trainer=replace(LENET.trainer, optimizer="adamw", select="best", patience=3)),
        replace(LENET, reg=RegConfig(augment=["flip", "turn"]), trainer=replace(LENET.trainer, microbatch=3)),
    ],
    ids=["dropout", "best", "microbatch"],
)
def test_an_interrupted_run_ends_with_bit_equal_weights(config: Config, data: Data) -> None:
    _resumes(config, data, after=2)


@pytest.mark.parametrize("after", [1, 2, 3], ids=["in stage 1", "between stages", "in stage 2"])
def test_in_either_stage(after: int, weights: str, data: Data) -> None:
    config = replace(
        LENET,
        model=ModelConfig("inception", weights, "mixed1"),
        finetune=FinetuneConfig(blocks=1, epochs=2, learning_rate=1e-4, schedule="cosine"),
        features=FeaturesConfig(dir="features"),
        trainer=replace(LENET.trainer, epochs=2),
    )
    _resumes(config, data, after)


def test_patience_that_ran_out_is_not_waited_for_again(data: Data) -> None:
    config = replace(LENET, trainer=replace(LENET.trainer, epochs=9, learning_rate=1e-9, patience=2))
    _, history = _trained(config, data, Checkpoints(Path("checkpoint.npz"), "mark"))
    assert len(history.epochs) < 9
    _, again = _trained(config, data, Checkpoints.read(Path("checkpoint.npz"), "mark"))
    assert _same(again, history)


def test_as_often_as_costs_one_percent(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("beans_exp.training.checkpoint.time.monotonic", lambda: clock[0])
    monkeypatch.setattr("beans_exp.training.checkpoint.LONGEST", 120.0)
    kept = Checkpoints(Path("checkpoint.npz"), "mark")
    clock[0] = 0.9
    assert not kept.due(4_000_000), "10 ms at the assumed speed"
    clock[0] = 1.1
    assert kept.due(4_000_000)
    kept.cost = 0.5
    clock[0] = 49.0
    assert not kept.due(4_000_000), "what was measured counts"
    kept.cost = 9.0
    clock[0] = 121.0
    assert kept.due(4_000_000), "a killed run loses two minutes at most"


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 broken", b"not a checkpoint"])
def test_a_damaged_checkpoint_is_a_warning(content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    file = Path("checkpoint.npz")
    file.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert Checkpoints.read(file, "mark").state is None
    assert "checkpoint.npz is damaged" in caplog.text


def test_another_runs_checkpoint_is_left_alone() -> None:
    Checkpoints(Path("checkpoint.npz"), "mark").save(STATE)
    assert Checkpoints.read(Path("checkpoint.npz"), "mark").state is not None
    assert Checkpoints.read(Path("checkpoint.npz"), "another").state is None
    assert Checkpoints.read(Path("nowhere.npz"), "mark").state is None


def test_a_full_disk_ends_checkpoints_and_not_the_run(
    data: Data, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*words: object, **keys: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    sent = []
    kept = Checkpoints(Path("checkpoint.npz"), "mark", after_save=lambda: sent.append(1))
    _, history = _trained(replace(LENET, trainer=replace(LENET.trainer, epochs=2)), data, kept)
    assert len(history.epochs) == 2 and sent, "its epochs are sent all the same"
    assert "No space left" in caplog.text
    assert list(Path().glob("checkpoint*")) == []
