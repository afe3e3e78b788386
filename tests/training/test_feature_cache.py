"""Activations of frozen layers: equal results with and without the cache, shared, complete or absent, bounded."""

import json
import logging
import resource
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from beans_exp.data import Data, Split
from beans_exp.files import read_json
from beans_exp.models.backbone import Cut, between
from beans_exp.schema import Config, DataConfig, FeaturesConfig, FinetuneConfig, ModelConfig, RegConfig, TrainerConfig
from beans_exp.terminal import progress
from beans_exp.training import feature_cache
from beans_exp.training.evaluation import evaluate, generalization
from beans_exp.training.feature_cache import Features, frozen_features
from beans_exp.training.stages import train
from tests.conftest import SIZE, SOURCE
from tests.shared_models import configured_model


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
    model = ModelConfig("inception", weights, "mixed3")
    return configured_model(Config(model=model, data=DataConfig(image_size=SIZE)))


@pytest.fixture(autouse=True)
def _global_state() -> Iterator[None]:
    yield
    keras.config.set_dtype_policy("float32")


def _entries() -> set[str]:
    return {folder.name.rsplit("-", 1)[0] for folder in Path("cache").iterdir() if folder.is_dir()}


def _features(model: keras.Model, data: Data, config: Config, blocks: int) -> Features:
    found = frozen_features(model, data, config, blocks)
    assert found is not None
    return found


@pytest.mark.parametrize("augment", [[], ["flip", "turn"]])
def test_training_gives_the_same_numbers_with_and_without_the_cache(
    augment: list[str], config: Config, data: Data
) -> None:
    results = []
    for cache in ("off", "auto"):
        frozen = replace(config, features=FeaturesConfig(cache, "cache"), finetune=FinetuneConfig())
        frozen = replace(frozen, reg=RegConfig(augment=augment), model=replace(config.model, top_block="mixed0"))
        model = configured_model(frozen)
        history = train(model, data, frozen, lambda epoch: None)
        measured = generalization(model, data, frozen, history)
        assert measured["eval/train_accuracy"] == evaluate(model, data.train, frozen).accuracy
        results.append((evaluate(model, data.test, frozen), history))
    (plain, history), (cached, cached_history) = results
    np.testing.assert_allclose(cached.probabilities, plain.probabilities, atol=1e-5)
    names = ("train/loss", "val/loss", "val/accuracy")
    for name in names:
        assert cached_history.selected.metrics[name] == pytest.approx(history.selected.metrics[name], abs=1e-4)
    assert "time/features_seconds" not in history.summary()
    assert cached_history.summary()["time/features_seconds"] > 0
    assert len(_entries()) == (9 if augment else 2), "every version of the training images, and the validation images"


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-5), ("bfloat16", 0.02)])
def test_both_stages_read_the_cache_and_fine_tune_the_block_above_it(
    precision: str, tolerance: float, config: Config, data: Data
) -> None:
    config.trainer.precision = precision
    model = configured_model(config)
    base = model.get_layer("base")
    before = [layer.kernel.numpy() for layer in base.layers if isinstance(layer, keras.layers.Conv2D)]
    history = train(model, data, config, lambda epoch: None)
    after = [layer.kernel.numpy() for layer in base.layers if isinstance(layer, keras.layers.Conv2D)]
    unchanged = [np.array_equal(one, other) for one, other in zip(before, after, strict=True)]
    assert [epoch.metrics["stage"] for epoch in history.epochs] == [1, 2]
    assert _entries() == {f"{cut}-{split}" for cut in ("mixed3-pooled", "mixed2") for split in ("train", "validation")}
    assert unchanged.count(False) == 4, "the four convolutions of mixed3"
    again = evaluate(model, data.validation, config)
    assert again.cross_entropy == pytest.approx(history.selected.metrics["val/cross_entropy"], abs=tolerance)
    dtypes = {np.dtype(read_json(file)["dtype"]) for file in Path("cache").glob("*/entry.json")}
    assert dtypes == {np.dtype(precision)}, "activations have the number format of the next layer"


def test_a_base_that_is_cut_in_two_gives_the_same_numbers(model: keras.Model, data: Data) -> None:
    images = data.train.images.astype(np.float32)
    uncut = between(model, Cut("image"), Cut("pooling")).predict(images, verbose=0)
    lower = between(model, Cut("image"), Cut("mixed1")).predict(images, verbose=0)
    upper = between(model, Cut("mixed1"), Cut("pooling")).predict(lower, verbose=0)
    assert uncut.shape == (6, 768)
    np.testing.assert_array_equal(upper, uncut)


def test_a_deeper_cut_is_computed_from_the_nearest_one(
    model: keras.Model, data: Data, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    segments: list[tuple[str, str]] = []

    def spy(model: keras.Model, below: Cut, above: Cut) -> keras.Model:
        segments.append((below.name, above.name))
        return between(model, below, above)

    monkeypatch.setattr(feature_cache, "between", spy)
    planned = replace(config, features=FeaturesConfig(dir="cache", blocks=[0, 1, 3]))
    first = _features(model, data, planned, 0)
    bottom_up = [("image", "mixed0"), ("mixed0", "mixed2"), ("mixed2", "pooling")]
    assert segments == bottom_up
    again = _features(model, data, planned, 1)
    assert segments == bottom_up, "nothing is computed twice"
    assert set(again.costs) < set(first.costs), "the cost of an entry counts once, however many depend on it"
    assert all(first.costs[name] == seconds for name, seconds in again.costs.items())
    np.testing.assert_array_equal(_features(model, data, planned, 0).train[0].images, first.train[0].images)


def test_two_jobs_at_once_compute_an_entry_once(
    model: keras.Model, data: Data, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[str] = []

    def spy(batches: Iterable, description: str, total: int) -> Iterator:
        computed.append(description)
        return progress(batches, description, total)

    monkeypatch.setattr(feature_cache, "progress", spy)
    jobs = [threading.Thread(target=frozen_features, args=(model, data, config, 2)) for _ in range(2)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert sorted(computed) == [f"frozen layers: {split} images to mixed1" for split in ("train", "validation")]


def _truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-4])


def _flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[100] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("damage", [_truncate, _flip_a_bit, Path.unlink])
def test_a_damaged_entry_is_computed_again(
    damage: Callable[[Path], None], model: keras.Model, data: Data, config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    first = np.array(_features(model, data, config, 2).train[0].images)
    (file,) = Path("cache").glob("mixed1-train-*/activations")
    damage(file)
    np.testing.assert_array_equal(_features(model, data, config, 2).train[0].images, first)
    assert f"{file.parent} is damaged" in caplog.text


@pytest.mark.parametrize("keys", [{"seconds": 1.5}, {"costs": {}, "compression": "zstd"}], ids=["older", "newer"])
def test_an_entry_of_another_format_is_removed_with_one_line_and_computed_again(
    keys: dict[str, object], model: keras.Model, data: Data, config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    first = np.array(_features(model, data, config, 2).train[0].images)
    (file,) = Path("cache").glob("mixed1-train-*/entry.json")
    entry = read_json(file)
    del entry["costs"]
    file.write_text(json.dumps(entry | keys))
    with caplog.at_level(logging.INFO):
        np.testing.assert_array_equal(_features(model, data, config, 2).train[0].images, first)
    lines = [record.getMessage() for record in caplog.records if file.parent.name in record.getMessage()]
    assert len(lines) == 1
    assert f"{file.parent} was written by another version of beans_exp" in lines[0]
    assert read_json(file).keys() == {*entry, "costs"}


def test_an_entry_of_the_previous_version_is_used(model: keras.Model, data: Data, config: Config) -> None:
    _features(model, data, config, 2)
    (file,) = Path("cache").glob("mixed1-train-*/entry.json")
    written = read_json(file)
    before = {key: written[key] for key in ("shape", "dtype", "checksum")} | {"costs": {file.parent.name: 12.5}}
    file.write_text(json.dumps(before))
    assert _features(model, data, config, 2).costs[file.parent.name] == 12.5


@contextmanager
def _full_disk(free_bytes: int) -> Iterator[None]:
    """Let writes fail beyond `free_bytes` of a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (free_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_ends_caching_and_not_the_run(
    model: keras.Model, data: Data, config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    with _full_disk(free_bytes=100_000):
        assert frozen_features(model, data, config, 2) is None
    assert "frozen layers are not cached" in caplog.text
    assert "File too large" in caplog.text
    assert [item for item in Path("cache").iterdir() if item.is_dir()] == []


def test_the_least_recently_used_entry_is_removed_first(model: keras.Model, data: Data, config: Config) -> None:
    config = replace(config, finetune=FinetuneConfig())
    _features(model, data, config, 1)
    _features(model, data, config, 2)
    _features(model, data, config, 1)
    sizes = {file.parent.name: file.stat().st_size for file in Path("cache").glob("*/activations")}
    room = sum(sizes.values()) - 1 + 4 * 768 * 9  # the pooled entries need the room of one
    _features(model, data, replace(config, features=FeaturesConfig(dir="cache", max_gb=room / 1e9)), 0)
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
def test_activations_are_not_cached_if_they_cannot_be(
    change: Callable[[Config], Config], model: keras.Model, data: Data, config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    changed = change(config)
    assert frozen_features(model, data, changed, 1) is None
    assert ("reg.augment is random: frozen layers cannot be cached" in caplog.text) == (changed.reg.augment == ["zoom"])
    assert not Path("cache").exists()


def test_an_entry_is_identified_by_all_that_determines_it(model: keras.Model, data: Data, config: Config) -> None:
    _features(model, data, config, 2)
    other = replace(data, source=replace(SOURCE, digest="e" * 64))
    _features(model, other, config, 2)
    smaller = replace(data, train=Split(data.train.images[:3], data.train.labels[:3]))
    _features(model, smaller, replace(config, data=replace(config.data, train_fraction=0.5)), 2)
    assert len(list(Path("cache").glob("mixed1-train-*/activations"))) == 3
