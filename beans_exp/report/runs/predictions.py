"""One run's predictions, reduced so that memory does not grow with the number of classes."""

import hashlib
import sys
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import brier_score_loss, confusion_matrix, precision_recall_fscore_support

from beans_exp.report.runs.calibration import Calibration, calibration
from beans_exp.tracking.reader import Predictions


@dataclass(frozen=True)
class Tested:
    """One run's test: `labels` and `predicted` are classes by number, small integers (n,)."""

    classes: tuple[str, ...]
    labels_digest: str
    """Equal for the same labels in the same order."""
    labels: np.ndarray
    predicted: np.ndarray
    confusion: np.ndarray
    """Images by label (rows) and prediction (columns), int64 (classes, classes)."""
    calibration: Calibration
    by_class: dict[str, np.ndarray]
    """`precision`, `recall` and `f1`, float64 (classes,)."""
    brier: float
    """Mean squared error of the probabilities, summed over classes: 0 is best, 2 is worst."""
    images: tuple[str, ...] = ()
    """The file or the record of each image; empty where the run does not name them."""

    def name(self, index: int) -> str:
        """Return the name of the image at `index`, else its number."""
        return f"image {index}" + (f" ({self.images[index]})" if self.images and self.images[index] else "")

    @property
    def right(self) -> np.ndarray:
        """Whether each image was classified correctly, bool (n,)."""
        return self.labels == self.predicted


def reduce(predictions: Predictions) -> Tested:
    """Return the figures of one run's `predictions`, computed by scikit-learn where it has them."""
    count = len(predictions.classes)
    numbers = range(count)
    labels, predicted = predictions.labels, predictions.predicted
    figures = precision_recall_fscore_support(labels, predicted, labels=numbers, zero_division=0)
    kind = np.min_scalar_type(count)
    probabilities = predictions.probabilities / predictions.probabilities.sum(axis=1, keepdims=True)  # they are rounded
    return Tested(
        predictions.classes,
        hashlib.sha256(repr((predictions.classes, labels.tolist())).encode()).hexdigest(),
        labels.astype(kind),
        predicted.astype(kind),
        confusion_matrix(labels, predicted, labels=numbers),
        calibration(probabilities, labels == predicted),
        dict(zip(("precision", "recall", "f1"), figures[:3], strict=True)),
        float(brier_score_loss(labels, probabilities, labels=list(numbers), scale_by_half=False)),
        tuple(map(sys.intern, predictions.images)),  # the runs of a report share their test images
    )
