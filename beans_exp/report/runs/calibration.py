"""Calibration of the largest probability, beside that of a perfectly calibrated model with as many images."""

from dataclasses import dataclass

import numpy as np

BINS = 10
"""Bins of equal width (Guo et al. 2017, arXiv 1706.04599)."""
REDRAWN = 1000
"""Times that a perfectly calibrated model's right and wrong images are drawn."""
CHUNK = 2**20
"""Random numbers held at once, so that memory does not grow with the number of test images."""


@dataclass(frozen=True)
class Calibration:
    """By bin of the largest probability: images, their summed confidence, and how many are right; all (bins,)."""

    images: np.ndarray
    confidence: np.ndarray
    right: np.ndarray
    perfect_mean: float
    """The expected `error` of a model with the same confidences that is right as often as they say."""
    perfect_high: float
    """The 95 % quantile of its error: a larger error shows that a model is not calibrated."""

    @property
    def error(self) -> float:
        """Expected calibration error: the mean over images of |confidence - accuracy| of their bin."""
        return float(np.abs(self.confidence - self.right).sum() / self.images.sum())

    @property
    def squared_error(self) -> float:
        """The squared error without the part that chance adds to it (Kumar et al. 2019, arXiv 1909.10155).

        0 is expected of a calibrated model, and chance can make it negative. Bins with one image tell nothing of it.
        """
        images, confidence, right = (values[self.images > 1] for values in (self.images, self.confidence, self.right))
        accuracy = right / images
        squares = (confidence / images - accuracy) ** 2 - accuracy * (1 - accuracy) / (images - 1)
        return float((images * squares).sum() / self.images.sum())


def calibration(probabilities: np.ndarray, right: np.ndarray) -> Calibration:
    """Return confidence and accuracy by bin, for `probabilities` (n, classes) and whether each is `right` (n,)."""
    confidence = probabilities.max(axis=1)
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    images, confident, correct = (
        np.bincount(bins, weights, minlength=BINS) for weights in (np.ones_like(confidence), confidence, right)
    )
    perfect = _perfect_errors(confidence, bins)
    return Calibration(images, confident, correct, float(perfect.mean()), float(np.quantile(perfect, 0.95)))


def _perfect_errors(confidence: np.ndarray, bins: np.ndarray) -> np.ndarray:
    """Return the errors of models that are right with the probability `confidence` (n,): float64 (redrawn,)."""
    random = np.random.default_rng(0)
    members = np.eye(BINS)[bins]
    size = max(1, CHUNK // len(confidence))
    errors = []
    for start in range(0, REDRAWN, size):
        right = random.random((min(size, REDRAWN - start), len(confidence))) < confidence
        errors.append(np.abs((right - confidence) @ members).sum(axis=1) / len(confidence))
    return np.concatenate(errors)
