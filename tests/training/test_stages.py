"""Training on tiny images: epochs, selection, patience, gradient accumulation, number formats, determinism."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from beans_exp.data import Data, Source, Split
from beans_exp.errors import DivergedError
from beans_exp.models import build_model
from beans_exp.models.graph import Graph
from beans_exp.models.regularization import loss
from beans_exp.schema import Config, DataConfig, RegConfig, TrainerConfig, names
from beans_exp.schema.precision import fast_flags, resolve_precision
from beans_exp.training.evaluation import evaluate, generalization
from beans_exp.training.history import Epoch, History, Stage
from beans_exp.training.optimizer import FusedAdam, stage_optimizer
from beans_exp.training.stages import configure, train
from beans_exp.training.training_model import training_model

CONFIG = Config(
    data=DataConfig(name="folder", data_dir="images", image_size=32),
    trainer=TrainerConfig(epochs=2, batch_size=8),
)


@pytest.fixture(autouse=True)
def _global_state() -> Iterator[None]:
    yield
    keras.config.set_dtype_policy("float32")


@pytest.fixture(scope="module")
def data() -> Data:
    """Three classes of noisy images that differ in colour: 20 training, 9 validation and 9 test images."""

    def split(seed: int, count: int) -> Split:
        rng = np.random.default_rng(seed)
        labels = np.arange(count) % 3
        images = rng.integers(0, 120, (count, 32, 32, 3))
        images[np.arange(count), :, :, labels] += 100
        return Split(images.astype(np.uint8), labels.astype(np.int64))

    source = Source("colours", "1", "0" * 64, ("red", "green", "blue"), lambda _: iter(()))
    return Data(source, 32, split(0, 20), split(1, 9), split(2, 9))


def _train(config: Config, data: Data) -> tuple[keras.Model, History]:
    configure(config)
    model = build_model(config, 3)
    return model, train(model, data, config, lambda epoch: None)


def _with(config: Config = CONFIG, **trainer: Any) -> Config:
    return replace(config, trainer=replace(config.trainer, **trainer))


def test_every_epoch_is_reported_once_with_its_metrics(data: Data) -> None:
    configure(CONFIG)
    reported: list[Epoch] = []
    history = train(build_model(CONFIG, 3), data, CONFIG, reported.append)
    assert [epoch.step for epoch in reported] == [1, 2]
    assert reported == history.epochs
    expected = [f"{split}/{name}" for split in ("train", "val") for name in ("loss", "accuracy", "cross_entropy")]
    assert set(reported[0].metrics) == {*expected, "time/epoch_seconds", "stage"}
    assert reported[0].metrics["stage"] == 1


@pytest.mark.parametrize("reg", [RegConfig(l1=0.01), RegConfig(l2=0.01), RegConfig(label_smoothing=0.1)], ids=str)
def test_cross_entropy_is_the_plain_data_term(reg: RegConfig, data: Data) -> None:
    config = replace(CONFIG, reg=reg)
    model, history = _train(config, data)
    metrics = history.selected.metrics
    assert metrics["val/loss"] != pytest.approx(metrics["val/cross_entropy"], rel=1e-3)
    again = evaluate(model, data.validation, config)
    assert again.cross_entropy == pytest.approx(metrics["val/cross_entropy"], rel=1e-4)
    assert again.loss == pytest.approx(metrics["val/loss"], rel=1e-4)
    assert again.accuracy == pytest.approx(metrics["val/accuracy"])


def test_label_smoothing_is_the_cross_entropy_with_softened_targets() -> None:
    logits = np.array([[2.0, 0.5, -1.0]], np.float32)
    log_probabilities = logits[0] - math.log(np.exp(logits[0]).sum())
    expected = -(np.array([0.1, 0.1, 0.8]) + np.array([0, 0, 0])) @ log_probabilities
    assert float(loss(RegConfig(label_smoothing=0.3), 3)(np.array([2]), logits)) == pytest.approx(expected, rel=1e-6)


def test_equal_seeds_give_bit_equal_weights(data: Data) -> None:
    config = replace(_with(deterministic=True), reg=RegConfig(dropout=0.2, augment=["flip", "turn"]))
    first, second, other = (_train(replace(config, seed=seed), data)[0].get_weights() for seed in (1, 1, 2))
    assert all(np.array_equal(one, two) for one, two in zip(first, second, strict=True))
    assert not all(np.array_equal(one, two) for one, two in zip(first, other, strict=True))


def test_a_microbatch_gives_the_gradient_of_the_full_batch(data: Data) -> None:
    config = replace(CONFIG, reg=RegConfig(l2=0.01))
    steps = []
    for microbatch in (None, 3):
        configure(config)
        model = build_model(config, 3)
        accumulated = replace(config, trainer=replace(config.trainer, microbatch=microbatch))
        fitted = training_model(model, Graph(model.input, model.output), accumulated)
        fitted.compile(keras.optimizers.SGD(0.1), loss(config.reg, 3), metrics=["accuracy"])
        images = tf.cast(data.train.images[:8], tf.float32)
        logs = fitted.train_on_batch(images, data.train.labels[:8], return_dict=True)
        steps.append((model.get_weights(), logs))
    (full, full_logs), (accumulated, accumulated_logs) = steps
    for one, other in zip(full, accumulated, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-6)
    assert accumulated_logs == pytest.approx(full_logs, rel=1e-5)


def test_a_microbatch_trains_every_image_of_an_uneven_batch(data: Data) -> None:
    _, full = _train(CONFIG, data)
    _, accumulated = _train(_with(microbatch=3), data)
    assert accumulated.epochs[0].metrics["train/loss"] == pytest.approx(full.epochs[0].metrics["train/loss"], rel=1e-3)


def _history(select: str, accuracies: list[float]) -> History:
    metrics = [{"val/accuracy": accuracy, "train/accuracy": 1.0} for accuracy in accuracies]
    return History(select, [Epoch(step, values) for step, values in enumerate(metrics, start=1)])


@pytest.mark.parametrize(("select", "step", "gap"), [("last", 4, 0.5), ("best", 2, 0.2)])
def test_an_epoch_is_selected(select: str, step: int, gap: float) -> None:
    history = _history(select, [0.6, 0.8, 0.8, 0.5])
    assert history.selected.step == step
    assert history.summary() == pytest.approx({"best/val_accuracy": 0.8, "best/epoch": 2, "gap/accuracy": gap})


def test_generalization_is_measured_in_inference_mode_on_plain_images(data: Data) -> None:
    config = replace(CONFIG, reg=RegConfig(dropout=0.5, augment=["zoom", "brightness"]))
    model, history = _train(config, data)
    measured = generalization(model, data, config, history)
    on_train = evaluate(model, data.train, config).accuracy
    assert measured["eval/train_accuracy"] == pytest.approx(on_train)
    assert measured["gap/eval_accuracy"] == pytest.approx(on_train - history.selected.metrics["val/accuracy"])


@pytest.mark.parametrize("microbatch", [None, 4])
def test_the_model_ends_with_the_weights_of_the_best_epoch(microbatch: int | None, data: Data) -> None:
    config = _with(epochs=5, select="best", learning_rate=0.02, microbatch=microbatch)
    model, history = _train(config, data)
    accuracy = evaluate(model, data.validation, config).accuracy
    assert accuracy == pytest.approx(history.best.metrics["val/accuracy"])
    cross_entropy = evaluate(model, data.validation, config).cross_entropy
    assert cross_entropy == pytest.approx(history.best.metrics["val/cross_entropy"], rel=1e-4)


def test_patience_stops_a_stalled_run(data: Data) -> None:
    _, history = _train(_with(epochs=20, learning_rate=1e-9, patience=2), data)
    assert len(history.epochs) == 3


@pytest.mark.parametrize("microbatch", [None, 4])
def test_the_error_of_a_diverged_run_names_the_epoch_and_the_rate(microbatch: int | None, data: Data) -> None:
    config = _with(optimizer="sgd", learning_rate=1e38, epochs=3, microbatch=microbatch)
    with pytest.raises(DivergedError, match=r"in epoch [12]\. Try a rate below 1e\+38"):
        _train(config, data)


def test_bfloat16_computes_in_bfloat16_and_returns_float32(data: Data) -> None:
    config = _with(precision="bfloat16")
    model, history = _train(config, data)
    assert model.get_layer("conv1").compute_dtype == "bfloat16"
    assert model.get_layer("conv1").kernel.dtype == "float32"
    assert evaluate(model, data.test, config).logits.dtype == np.float32
    assert math.isfinite(history.selected.metrics["train/loss"])


@pytest.mark.parametrize("optimizer", names.OPTIMIZERS)
def test_every_optimizer_of_the_schema_exists(optimizer: str) -> None:
    assert float(stage_optimizer(optimizer, Stage(1, 2, 0.5), 10).learning_rate) == 0.5


@pytest.mark.parametrize(
    ("vendor", "flags", "precision"),
    [
        ("GenuineIntel", "sse4_2 avx2", "float32"),
        ("AuthenticAMD", "avx512f avx512_bf16", "bfloat16"),
        ("GenuineIntel", "avx512f avx512_bf16", "float32"),
        ("GenuineIntel", "avx512_bf16 amx_bf16 amx_tile", "bfloat16"),
        ("GenuineIntel", None, "float32"),
    ],
)
def test_auto_precision_depends_on_the_features_of_the_cpu(
    vendor: str, flags: str | None, precision: str, tmp_path: Path
) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    if flags is not None:
        cpuinfo.write_text(f"vendor_id\t: {vendor}\nflags\t\t: fpu {flags}\n")
    assert bool(fast_flags(cpuinfo)) == (precision == "bfloat16")
    assert resolve_precision(_with(precision="auto"), cpuinfo).trainer.precision == precision
    assert resolve_precision(_with(precision="bfloat16"), cpuinfo).trainer.precision == "bfloat16"


def test_fused_adam_equals_the_adam_of_keras() -> None:
    start = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
    ours, theirs = keras.Variable(start), keras.Variable(start)
    fused, plain = FusedAdam(0.1), keras.optimizers.Adam(0.1)
    for step in range(4):
        gradient = tf.constant(np.cos(start * (step + 1)))
        fused.apply_gradients([(gradient, ours)])
        plain.apply_gradients([(gradient, theirs)])
    np.testing.assert_allclose(ours, theirs, atol=1e-5)  # each step is about 0.1
    assert not np.allclose(ours, start)
