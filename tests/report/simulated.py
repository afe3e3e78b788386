"""Simulated runs in a store, as the tracker writes them, without training.

Curves and predictions are random draws from a quality per configuration, with noise per seed and image; the accuracies
mean nothing.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from beans_exp.files import csv_text
from beans_exp.tracking import tags

CLASSES = ("angular_leaf_spot", "bean_rust", "healthy")
IMAGES = 128
DATA = ("beans", "0123456789abcdef")


@dataclass(frozen=True)
class Point:
    """A configuration to simulate: its config, its quality (0..1) and its seconds per epoch."""

    config: Any
    quality: float
    seconds: float


class Writer:
    """Writes runs into a store as the tracker does, without training."""

    def __init__(self, uri: str, experiment_id: str, images: int = IMAGES, data: tuple[str, str] = DATA) -> None:
        import mlflow

        self.client = mlflow.MlflowClient(uri)
        self.experiment_id = experiment_id
        self.labels = np.arange(images) % len(CLASSES)
        self.difficulty = np.random.default_rng(1).normal(size=images)
        self.data = data
        self.number = 0

    def write(
        self,
        point: Point,
        status: str = "finished",
        parent: str | None = None,
        sweep: str | None = None,
        predictions: bool = True,
    ) -> str:
        """Write one run and return its id."""
        from mlflow.entities import Param

        from beans_exp.tracking.params import flat_params

        self.number += 1
        config = point.config
        known = {tags.FINGERPRINT: f"{self.number:016x}", tags.PRECISION: config.trainer.precision}
        known |= {tags.PARENT_RUN: parent} if parent else {}
        known |= {tags.SWEEP: sweep} if sweep else {}
        run = self.client.create_run(self.experiment_id, tags=known, run_name=f"{config.model.name}-seed{config.seed}")
        run_id = run.info.run_id
        params = [Param(key, value) for key, value in flat_params(config).items()]
        self.client.log_batch(run_id, params=params)
        self._log_data(run_id)
        if status == "finished":
            self._log_metrics(run_id, point, predictions)
        self.client.set_tag(run_id, tags.STATUS, status)
        self.client.set_terminated(run_id, {"finished": "FINISHED", "pruned": "KILLED"}.get(status, "FAILED"))
        return run_id

    def _log_data(self, run_id: str) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        name, digest = self.data
        dataset = Dataset(name, digest, "code", "{}")
        self.client.log_inputs(run_id, [DatasetInput(dataset, [InputTag(tags.DATA_CONTEXT, "training")])])

    def _log_metrics(self, run_id: str, point: Point, predictions: bool) -> None:
        from mlflow.entities import Metric

        random = np.random.default_rng((point.config.seed, self.number))
        probabilities = self._probabilities(point, random)
        right = probabilities.argmax(axis=1) == self.labels
        epochs = list(_epochs(point, random))
        now = int(1000 * time.time())
        metrics = [Metric(k, v, now, step) for step, epoch in enumerate(epochs, 1) for k, v in epoch.items()]
        metrics += [Metric(k, v, now, 0) for k, v in _summary(point, epochs, float(right.mean())).items()]
        for start in range(0, len(metrics), 1000):
            self.client.log_batch(run_id, metrics=metrics[start : start + 1000])
        if predictions:
            self.client.log_text(run_id, self._csv(probabilities), "predictions.csv")

    def _probabilities(self, point: Point, random: np.random.Generator) -> np.ndarray:
        """Return the softmax, (images, classes), of logits whose margin is the quality minus the image's difficulty."""
        margin = (
            4 * (point.quality - 0.4) + random.normal(0, 0.15) - self.difficulty + random.normal(size=len(self.labels))
        )
        logits = random.normal(0, 0.5, (len(self.labels), len(CLASSES)))
        logits[np.arange(len(self.labels)), self.labels] += 1.5 * margin
        exponents = np.exp(logits)
        return exponents / exponents.sum(axis=1, keepdims=True)

    def _csv(self, probabilities: np.ndarray) -> str:
        header = ["index", "label", "predicted", *(f"p_{name}" for name in CLASSES)]
        images = enumerate(zip(self.labels, probabilities, strict=True))
        rows = (
            [index, CLASSES[label], CLASSES[row.argmax()], *(f"{value:.6f}" for value in row)]
            for index, (label, row) in images
        )
        return csv_text(header, rows)


def _epochs(point: Point, random: np.random.Generator) -> Iterator[dict[str, float]]:
    """Yield the metrics of each epoch: a noisy, saturating curve; the epochs of the second stage take longer."""
    config = point.config
    first, second = config.trainer.epochs, config.finetune.epochs if config.finetune.blocks else 0
    for epoch in range(1, first + second + 1):
        learned = 1 - np.exp(-epoch / (3 if config.model.name == "inception" else 6))
        validation = np.clip(0.33 + (point.quality - 0.3) * learned + random.normal(0, 0.02), 0, 1)
        train = np.clip(0.33 + 0.66 * learned + random.normal(0, 0.01), 0, 1)
        values: dict[str, float] = {}
        for part, accuracy in (("train", train), ("val", validation)):
            values |= {f"{part}/accuracy": float(accuracy), f"{part}/cross_entropy": float(1.2 * (1 - accuracy))}
            values[f"{part}/loss"] = values[f"{part}/cross_entropy"] + 30 * config.reg.l1 + 10 * config.reg.l2
        stage = 1 if epoch <= first else 2
        yield values | {"stage": stage, "time/epoch_seconds": point.seconds * random.uniform(0.9, 1.2) / (3 - stage)}


def _summary(point: Point, epochs: list[dict[str, float]], test: float) -> dict[str, float]:
    validation = [epoch["val/accuracy"] for epoch in epochs]
    seconds = sum(epoch["time/epoch_seconds"] for epoch in epochs)
    inception = point.config.model.name == "inception"
    cost = {"time/features_seconds": 80.0} if inception else {}
    return cost | {
        "test/accuracy": test,
        "test/loss": 1.2 * (1 - test),
        "test/cross_entropy": 1.2 * (1 - test),
        "best/val_accuracy": max(validation),
        "best/epoch": float(np.argmax(validation)) + 1,
        "gap/accuracy": epochs[-1]["train/accuracy"] - epochs[-1]["val/accuracy"],
        "time/total_seconds": seconds + 20,
        "time/ms_per_image": 36.0 if inception else 9.0,
        "memory/peak_rss_mb": 3600.0,
        "model/parameters": 23_904_035 if inception else 26_985_195,
        "model/trainable_parameters": 2_101_251 if inception else 26_985_195,
        "model/macs": 5.7e9 if inception else 0.36e9,
        "model/size_mb": 95.6 if inception else 107.9,
    }
