"""Evaluation of a trained model on a split: logits, and the metrics that follow from them."""

import time
from dataclasses import dataclass, replace

import keras
import numpy as np

from beans_exp.data import Data, Split
from beans_exp.data.batches import ordered_batches
from beans_exp.models import training_graph
from beans_exp.models.graph import inference_function
from beans_exp.models.regularization import loss
from beans_exp.schema import Config, RegConfig
from beans_exp.training.feature_cache import frozen_features
from beans_exp.training.history import History


@dataclass(frozen=True)
class Evaluation:
    """The labels of a split, int64 (n,), the logits of a model, float32 (n, classes), and its training loss."""

    labels: np.ndarray
    logits: np.ndarray
    loss: float
    ms_per_image: float

    @property
    def predicted(self) -> np.ndarray:
        """The classes with the largest logit, int64 (n,)."""
        return self.logits.argmax(axis=1)

    @property
    def probabilities(self) -> np.ndarray:
        """Softmax of the logits, float64 (n, classes)."""
        shifted = np.exp(self.logits.astype(np.float64) - self.logits.max(axis=1, keepdims=True))
        return shifted / shifted.sum(axis=1, keepdims=True)

    @property
    def accuracy(self) -> float:
        return float((self.predicted == self.labels).mean())

    @property
    def cross_entropy(self) -> float:
        """Mean negative log probability of the labels, in nats: the plain data term."""
        shifted = self.logits.astype(np.float64) - self.logits.max(axis=1, keepdims=True)
        log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        return float(-log_probabilities[np.arange(len(self.labels)), self.labels].mean())

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics by the names that a run logs."""
        return {
            "test/loss": self.loss,
            "test/accuracy": self.accuracy,
            "test/cross_entropy": self.cross_entropy,
            "time/ms_per_image": self.ms_per_image,
        }


def evaluate(model: keras.Model, split: Split, config: Config) -> Evaluation:
    """Run the whole `model` on the raw images of `split`; the time per image excludes tracing."""
    classify = inference_function(model)
    classify(np.asarray(split.images[:1], np.float32))  # traces the function
    batches = ordered_batches(split, config.trainer.microbatch or config.trainer.batch_size)
    started = time.perf_counter()
    logits = np.concatenate([classify(images) for images, _ in batches])
    seconds = time.perf_counter() - started
    data_term = loss(config.reg, logits.shape[1])(split.labels, logits)
    penalty = sum(float(term) for term in model.losses)
    return Evaluation(np.asarray(split.labels), logits, float(data_term) + penalty, 1000 * seconds / len(split))


def generalization(model: keras.Model, data: Data, config: Config, history: History) -> dict[str, float]:
    """Return the accuracy of the trained `model` on its training images, measured as on validation, and the gap.

    Keras' running training accuracy is an average over an epoch of changing weights, with dropout and augmentation.
    Here the selected weights classify the unaugmented images in inference mode, from cached activations if available.
    """
    plain = replace(config, reg=RegConfig())
    features = frozen_features(model, data, plain, config.finetune.blocks)
    graph = training_graph(model, plain, config.finetune.blocks, cached=features is not None)
    classify = inference_function(keras.Model(graph.inputs, graph.logits))
    split = features.train[0] if features else data.train
    batches = ordered_batches(split, config.trainer.microbatch or config.trainer.batch_size)
    right = sum(int(np.sum(classify(inputs).numpy().argmax(axis=1) == labels.numpy())) for inputs, labels in batches)
    accuracy = right / len(split)
    gap = accuracy - history.selected.metrics["val/accuracy"]
    return {"eval/train_accuracy": accuracy, "gap/eval_accuracy": gap}
