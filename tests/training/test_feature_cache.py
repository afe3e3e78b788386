"""Frozen layers computed once: the same numbers as without, shared, whole or not there, bounded."""

import json
import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from beans_exp.data import Data, Split
from beans_exp.models import build_model
from beans_exp.models.backbone import Cut, between
from beans_exp.schema import Config, DataConfig, FeaturesConfig, FinetuneConfig, ModelConfig, RegConfig, TrainerConfig
from beans_exp.training import feature_cache as features
from beans_exp.training.evaluation import evaluate, generalization
from beans_exp.training.feature_cache import Features, Part, frozen_features
from beans_exp.training.stages import configure, train
from tests.conftest import SIZE, SOURCE


@pytest.fixture
def config(weights: str) -> Config:
    return Config(
        model=ModelConfig("inception", weights, "mixed3"),
        data=DataConfig(name="folder", data_dir="images", image_size=SIZE),
        trainer=TrainerConfig(epochs=1, batch_size=4),
        finetune=FinetuneConfig(blocks=1, epochs=1, learning_rate=1e-4),
        features=FeaturesConfig(dir="cache"),
    )


@pytest.fixture(scope="module")
def model(weights: str) -> keras.Model:
    config = Config(model=ModelConfig("inception", weights, "mixed3"), data=DataConfig(image_size=SIZE))
    configure(config)
    return build_model(config, 3)


def _entries() -> set[str]:
    return {folder.name.rsplit("-", 1)[0] for folder in Path("cache").iterdir() if folder.is_dir()}


def _of(model: keras.Model, data: Data, config: Config, blocks: int) -> Features:
    found = frozen_features(model, data, config, blocks)
    assert found is not None
    return found


@pytest.mark.parametrize("augment", [[], ["flip", "turn"]])
def test_with_and_without_the_cache_training_gives_the_same_numbers(
    augment: list[str], config: Config, data: Data
) -> None:
    outcomes = []
    for cache in ("off", "auto"):
        head_alone = replace(config, features=FeaturesConfig(cache, "cache"), finetune=FinetuneConfig())
        head_alone = replace(head_alone, reg=RegConfig(augment=augment))
        configure(head_alone)
        model = build_model(head_alone, 3)
        history = train(model, data, head_alone, lambda epoch: None)
        measured = generalization(model, data, head_alone, history)
        assert measured["eval/train_accuracy"] == evaluate(model, data.train, head_alone).accuracy
        outcomes.append((evaluate(model, data.test, head_alone), history))
    (plain, history), (cached, cached_history) = outcomes
    np.testing.assert_allclose(cached.probabilities, plain.probabilities, atol=1e-5)
    names = ("train/loss", "val/loss", "val/accuracy")
    for name in names:
        assert cached_history.selected.metrics[name] == pytest.approx(history.selected.metrics[name], abs=1e-4)
    assert "time/features_seconds" not in history.summary()
    assert cached_history.summary()["time/features_seconds"] > 0
    assert len(_entries()) == (9 if augment else 2), "every version of the training images, and the validation images"


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-5), ("bfloat16", 0.02)])
def test_both_stages_read_the_cache_and_tune_the_block_above_it(
    precision: str, tolerance: float, config: Config, data: Data
) -> None:
    config.trainer.precision = precision
    configure(config)
    model = build_model(config, 3)
    base = model.get_layer("base")
    before = [layer.kernel.numpy() for layer in base.layers if isinstance(layer, keras.layers.Conv2D)]
    history = train(model, data, config, lambda epoch: None)
    after = [layer.kernel.numpy() for layer in base.layers if isinstance(layer, keras.layers.Conv2D)]
    kept = [np.array_equal(one, other) for one, other in zip(before, after, strict=True)]
    assert [epoch.metrics["stage"] for epoch in history.epochs] == [1, 2]
    assert _entries() == {f"{cut}-{split}" for cut in ("mixed3-pooled", "mixed2") for split in ("train", "validation")}
    assert kept.count(False) == 4, "the four convolutions of mixed3"
    again = evaluate(model, data.validation, config)
    assert again.cross_entropy == pytest.approx(history.selected.metrics["val/cross_entropy"], abs=tolerance)
    dtypes = {np.dtype(json.loads(file.read_text())["dtype"]) for file in Path("cache").glob("*/entry.json")}
    assert dtypes == {np.dtype(precision)}, "activations are kept in the number format that the next layer takes"


def test_a_cut_in_two_gives_the_same_numbers(model: keras.Model, data: Data) -> None:
    images = data.train.images.astype(np.float32)
    whole = between(model, Cut("image"), Cut("pooling")).predict(images, verbose=0)
    lower = between(model, Cut("image"), Cut("mixed1")).predict(images, verbose=0)
    upper = between(model, Cut("mixed1"), Cut("pooling")).predict(lower, verbose=0)
    assert whole.shape == (6, 768)
    np.testing.assert_array_equal(upper, whole)


def test_a_deeper_cut_is_computed_from_the_nearest_one(
    model: keras.Model, data: Data, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts: list[tuple[str, str]] = []

    def spy(whole: keras.Model, below: Cut, above: Cut) -> keras.Model:
        parts.append((below.name, above.name))
        return between(whole, below, above)

    monkeypatch.setattr(features, "between", spy)
    planned = replace(config, features=FeaturesConfig(dir="cache", blocks=[0, 1, 3]))
    first = _of(model, data, planned, 0)
    bottom_up = [("image", "mixed0"), ("mixed0", "mixed2"), ("mixed2", "pooling")]
    assert parts == bottom_up
    again = _of(model, data, planned, 1)
    assert parts == bottom_up, "nothing is computed twice"
    assert set(again.costs) < set(first.costs), "an entry's cost counts once, whatever rests on it"
    assert all(first.costs[name] == seconds for name, seconds in again.costs.items())
    np.testing.assert_array_equal(_of(model, data, planned, 0).train[0].images, first.train[0].images)


def test_two_jobs_at_once_compute_an_entry_once(
    model: keras.Model, data: Data, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[str] = []
    write = features.ActivationCache._write

    def count(cache: features.ActivationCache, part: Part, cut: Cut, folder: Path) -> None:
        computed.append(part.name)
        write(cache, part, cut, folder)

    monkeypatch.setattr(features.ActivationCache, "_write", count)
    jobs = [threading.Thread(target=frozen_features, args=(model, data, config, 2)) for _ in range(2)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert sorted(computed) == ["train", "validation"]


def _cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-4])


def _flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[100] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("damage", [_cut_short, _flip_a_bit, Path.unlink])
def test_a_damaged_entry_is_computed_again(
    damage: Callable[[Path], None], model: keras.Model, data: Data, config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    first = np.array(_of(model, data, config, 2).train[0].images)
    (file,) = Path("cache").glob("mixed1-train-*/activations")
    damage(file)
    np.testing.assert_array_equal(_of(model, data, config, 2).train[0].images, first)
    assert "is damaged" in caplog.text


def test_a_full_disk_costs_time_alone(
    model: keras.Model, data: Data, config: Config, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(features.ActivationCache, "_write", full)
    assert frozen_features(model, data, config, 2) is None
    assert "No space left on device" in caplog.text
    assert [item for item in Path("cache").iterdir() if item.is_dir()] == []


def test_the_least_recently_used_entry_goes_first(model: keras.Model, data: Data, config: Config) -> None:
    config = replace(config, finetune=FinetuneConfig())
    _of(model, data, config, 1)
    _of(model, data, config, 2)
    _of(model, data, config, 1)
    sizes = {file.parent.name: file.stat().st_size for file in Path("cache").glob("*/activations")}
    room = sum(sizes.values()) - 1 + 4 * 768 * 9  # one entry has to go for the pooled ones to come
    _of(model, data, replace(config, features=FeaturesConfig(dir="cache", max_gb=room / 1e9)), 0)
    assert "mixed2-train" in _entries()
    assert "mixed3-pooled-train" in _entries()
    assert not {"mixed1-train", "mixed1-validation"} <= _entries()


@pytest.mark.parametrize(
    "change",
    [
        lambda config: replace(config, features=FeaturesConfig(cache="off")),
        lambda config: replace(config, reg=RegConfig(augment=["zoom"])),
        lambda config: replace(config, model=ModelConfig("inception", None, "mixed3")),
    ],
    ids=["off", "augmented", "from scratch"],
)
def test_what_cannot_be_cached_is_not(
    change: Callable[[Config], Config], model: keras.Model, data: Data, config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    changed = change(config)
    assert frozen_features(model, data, changed, 1) is None
    assert ("reg.augment makes ever new images" in caplog.text) == (changed.reg.augment == ["zoom"])
    assert not Path("cache").exists()


def test_an_entry_is_known_by_what_decides_it(model: keras.Model, data: Data, config: Config) -> None:
    _of(model, data, config, 2)
    other = replace(data, source=replace(SOURCE, digest="e" * 64))
    _of(model, other, config, 2)
    part = replace(data, train=Split(data.train.images[:3], data.train.labels[:3]))
    _of(model, part, replace(config, data=replace(config.data, train_fraction=0.5)), 2)
    assert len(list(Path("cache").glob("mixed1-train-*/activations"))) == 3
