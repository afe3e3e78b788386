"""Checkpoints: an interrupted run resumes as if nothing had happened; files that cannot be used are removed."""

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from beans_exp.data import Data
from beans_exp.schema import Config, DataConfig, FeaturesConfig, FinetuneConfig, ModelConfig, RegConfig, TrainerConfig
from beans_exp.training.checkpoint import Checkpoints, SaveSchedule, TrainingState
from beans_exp.training.history import Epoch, History
from beans_exp.training.stages import train
from tests.conftest import SIZE
from tests.shared_models import configured_model

LENET = Config(
    data=DataConfig(name="folder", data_dir="images", image_size=SIZE),
    reg=RegConfig(dropout=0.3),
    trainer=TrainerConfig(epochs=4, batch_size=4, deterministic=True),
)
FILE = Path("checkpoint.npz")
STATE = TrainingState(
    1, 0.5, 0, [{"train/loss": 1.0}], {}, {"model": [np.ones(3)], "fitted": [], "optimizer": [], "best": []}
)


@pytest.fixture(autouse=True)
def _a_checkpoint_is_due_every_epoch(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("beans_exp.training.checkpoint.LONGEST", 0.0)
    yield
    keras.config.set_dtype_policy("float32")


@dataclass
class Trained:
    """A finished run."""

    config: Config
    weights: list[np.ndarray]
    history: History


def _train(config: Config, data: Data, checkpoints: Checkpoints | None = None) -> Trained:
    model = configured_model(config)
    history = train(model, data, config, lambda epoch: None, checkpoints)
    return Trained(config, model.get_weights(), history)


def _interrupt(config: Config, data: Data, after: int) -> None:
    """Train `config` until the process dies in the epoch following number `after`, before that one is saved."""

    def die(epoch: Epoch) -> None:
        if epoch.step > after:
            raise SystemExit

    with pytest.raises(SystemExit):
        train(configured_model(config), data, config, die, Checkpoints(FILE, "mark"))


def _require_equal_epochs(one: History, other: History) -> None:
    def without_time(history: History) -> list[dict[str, float]]:
        return [{k: v for k, v in epoch.metrics.items() if k != "time/epoch_seconds"} for epoch in history.epochs]

    assert without_time(one) == without_time(other)


def _require_equal_resumption(uninterrupted: Trained, data: Data, after: int) -> None:
    config = uninterrupted.config
    _interrupt(config, data, after)
    found = Checkpoints.read(FILE, "mark")
    assert found.state is not None and len(found.state.epochs) == after
    resumed = _train(config, data, found)
    _require_equal_epochs(resumed.history, uninterrupted.history)
    assert all(np.array_equal(*pair) for pair in zip(resumed.weights, uninterrupted.weights, strict=True))


@pytest.mark.parametrize(
    "config",
    [
        LENET,
        replace(LENET, trainer=replace(LENET.trainer, optimizer="adamw", select="best", patience=3)),
        replace(LENET, reg=RegConfig(augment=["flip", "turn"]), trainer=replace(LENET.trainer, microbatch=3)),
    ],
    ids=["dropout", "best", "microbatch"],
)
def test_a_resumed_run_ends_with_bit_equal_weights(config: Config, data: Data) -> None:
    _require_equal_resumption(_train(config, data), data, after=2)


@pytest.fixture(scope="module")
def two_stages(weights: str, data: Data, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    config = replace(
        LENET,
        model=ModelConfig("inception", weights, "mixed1"),
        finetune=FinetuneConfig(blocks=1, epochs=2, learning_rate=1e-4, schedule="cosine"),
        features=FeaturesConfig(dir=str(tmp_path_factory.mktemp("features"))),
        trainer=replace(LENET.trainer, epochs=2),
    )
    return _train(config, data)


@pytest.mark.parametrize("after", [1, 2, 3], ids=["in stage 1", "between stages", "in stage 2"])
def test_a_run_resumes_in_either_stage(after: int, two_stages: Trained, data: Data) -> None:
    for head in Path(str(two_stages.config.features.dir)).glob("head-*.npz"):
        head.unlink()  # else stage 1 is not trained again
    _require_equal_resumption(two_stages, data, after)


def test_exhausted_patience_stays_exhausted(data: Data) -> None:
    config = replace(LENET, trainer=replace(LENET.trainer, epochs=9, learning_rate=1e-9, patience=2))
    stopped = _train(config, data, Checkpoints(FILE, "mark"))
    assert len(stopped.history.epochs) < 9
    resumed = _train(config, data, Checkpoints.read(FILE, "mark"))
    _require_equal_epochs(resumed.history, stopped.history)


def test_checkpoints_cost_one_percent_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("beans_exp.training.checkpoint.LONGEST", 120.0)
    schedule = SaveSchedule(last_end=0.0)
    assert not schedule.is_due(0.9, 4_000_000), "10 ms at the assumed speed"
    assert schedule.is_due(1.1, 4_000_000)
    schedule.record(begin=-0.5, end=0.0)
    assert not schedule.is_due(49.0, 4_000_000), "the measured cost counts"
    assert schedule.is_due(51.0, 4_000_000)
    schedule.record(begin=-9.0, end=0.0)
    assert schedule.is_due(121.0, 4_000_000), "a killed run loses two minutes at most"


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 broken", b"not a checkpoint"])
def test_a_damaged_checkpoint_is_removed_with_a_warning(content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    FILE.write_bytes(content)
    assert Checkpoints.read(FILE, "mark").state is None
    assert "checkpoint.npz is damaged" in caplog.text
    assert not FILE.exists()


def _flip(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :]


def test_no_flipped_bit_and_no_missing_end_is_read(caplog: pytest.LogCaptureFixture) -> None:
    Checkpoints(FILE, "mark").save(STATE)
    content = FILE.read_bytes()
    some = range(0, len(content), 11)
    damaged = [_flip(content, at) for at in some] + [content[:size] for size in some]
    for one in damaged:
        FILE.write_bytes(one)
        assert Checkpoints.read(FILE, "mark").state is None and not FILE.exists()
    assert len(caplog.records) == len(damaged), "one line for each"


def test_a_checkpoint_of_the_version_without_checksums_is_read() -> None:
    _write_format_1(FILE, format=2, head_run="")
    state = Checkpoints.read(FILE, "mark").take()
    assert state is not None and np.array_equal(state.arrays["model"][0], np.ones(3))


def test_the_checkpoint_of_another_run_is_ignored() -> None:
    Checkpoints(FILE, "mark").save(STATE)
    assert Checkpoints.read(FILE, "mark").state is not None
    assert Checkpoints.read(FILE, "another").state is None
    assert FILE.exists()
    assert Checkpoints.read(Path("nowhere.npz"), "mark").state is None


def _write_format_1(file: Path, **facts: Any) -> None:
    """Write a checkpoint as the code before the format number did."""
    known = {"stage": 1, "stage_best": 0.5, "stalled": 0, "epochs": [{"train/loss": 1.0}], "features_costs": {}}
    known |= {"fingerprint": "mark", "run_id": "old", "seconds": 3.0}
    arrays: dict[str, Any] = {"facts": np.array(json.dumps(known | facts)), "model.0": np.ones(3)}
    np.savez(file, **arrays)


@pytest.mark.parametrize(
    "facts",
    [{"head_run": ""}, {}, {"format": 99, "head_run": "", "layers": []}],
    ids=["without a format", "before heads were cached", "of a later version"],
)
def test_a_checkpoint_of_another_format_is_removed_with_one_line(
    facts: dict[str, Any], data: Data, caplog: pytest.LogCaptureFixture
) -> None:
    _write_format_1(FILE, **facts)
    with caplog.at_level(logging.INFO):
        found = Checkpoints.read(FILE, "mark")
    assert (found.state, found.run_id, found.seconds) == (None, "", 0.0)
    [line] = [record.getMessage() for record in caplog.records if record.name == "beans_exp"]
    assert "checkpoint.npz was written by another version of beans_exp" in line
    assert not FILE.exists()


def test_a_run_trains_from_the_beginning_after_a_checkpoint_of_another_format(data: Data) -> None:
    config = replace(LENET, trainer=replace(LENET.trainer, epochs=1))
    _write_format_1(FILE)
    trained = _train(config, data, Checkpoints.read(FILE, "mark"))
    assert [epoch.step for epoch in trained.history.epochs] == [1]
    saved = Checkpoints.read(FILE, "mark").take()
    assert saved is not None and len(saved.epochs) == 1


def test_a_full_disk_costs_checkpoints_and_not_the_run(
    data: Data, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    saved, tries = np.savez, []

    def full(*words: Any, **keys: Any) -> None:
        tries.append(1)
        if len(tries) <= 2:
            raise OSError(28, "No space left on device")
        saved(*words, **keys)

    monkeypatch.setattr(np, "savez", full)
    covered = []
    checkpoints = Checkpoints(FILE, "mark", after_save=lambda: covered.append(len(tries)))
    trained = _train(replace(LENET, trainer=replace(LENET.trainer, epochs=4)), data, checkpoints)
    assert len(trained.history.epochs) == 4
    assert caplog.text.count("No space left") == 1
    assert covered[0] == 3, "no epoch is sent before a checkpoint covers it: a killed run stays resumable"
    found = Checkpoints.read(FILE, "mark").take()
    assert found is not None and len(found.epochs) == 4
