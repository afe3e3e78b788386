"""Figures of one run's predictions against cases computed by hand and against scikit-learn."""

import numpy as np
import pytest
from scipy import stats
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, precision_recall_fscore_support

from beans_exp.report.runs.calibration import Calibration, calibration
from beans_exp.report.runs.predictions import reduce
from beans_exp.tracking.reader import Predictions


def _predictions(images: int = 40) -> Predictions:
    random = np.random.default_rng(3)
    raw = random.random((images, 3)) ** 3
    probabilities = raw / raw.sum(axis=1, keepdims=True)
    return Predictions(("a", "b", "c"), random.integers(0, 3, images), probabilities.argmax(axis=1), probabilities)


def test_calibration_by_hand() -> None:
    """Two predictions at 0.9, one right: |1.8 - 1|; two at 0.6, both right: |1.2 - 2|; together 1.6 of 4."""
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4]])
    assert calibration(probabilities, np.array([True, False, True, True])).error == pytest.approx(1.6 / 4)


def test_calibration_bins_equal_those_of_scikit_learn() -> None:
    predictions = _predictions(400)
    right = predictions.labels == predictions.predicted
    found = calibration(predictions.probabilities, right)
    used = found.images > 0
    expected = calibration_curve(right, predictions.probabilities.max(axis=1), n_bins=10)
    assert found.right[used] / found.images[used] == pytest.approx(expected[0])
    assert found.confidence[used] / found.images[used] == pytest.approx(expected[1])


def test_figures_by_class_equal_those_of_scikit_learn() -> None:
    predictions = _predictions()
    found = reduce(predictions)
    expected = precision_recall_fscore_support(predictions.labels, predictions.predicted, zero_division=0)
    for name, values in zip(("precision", "recall", "f1"), expected[:3], strict=True):
        assert found.by_class[name] == pytest.approx(values)
    onehot = np.eye(3)[predictions.labels]
    assert found.brier == pytest.approx(((predictions.probabilities - onehot) ** 2).sum(axis=1).mean())
    assert found.confusion.sum() == 40
    assert found.confusion.trace() == found.right.sum()


def test_the_brier_score_of_two_classes_is_twice_the_usual_one() -> None:
    chances = np.array([0.1, 0.6, 0.8])
    labels = np.array([0, 0, 1])
    found = reduce(Predictions(("no", "yes"), labels, (chances > 0.5).astype(int), np.stack([1 - chances, chances], 1)))
    assert found.brier == pytest.approx(2 * brier_score_loss(labels, chances))


def test_a_class_that_is_never_predicted_has_precision_zero_without_a_warning() -> None:
    found = reduce(Predictions(("a", "b"), np.array([0, 1]), np.array([0, 0]), np.array([[0.9, 0.1], [0.8, 0.2]])))
    assert found.by_class["precision"].tolist() == [0.5, 0]


def test_a_perfectly_calibrated_model_has_the_error_of_chance() -> None:
    """128 images in one bin at 0.75: the mean of |right - 96| / 128 for a binomial number of right images."""
    probabilities = np.tile([0.75, 0.25], (128, 1))
    found = calibration(probabilities, np.arange(128) < 96)
    counts = np.arange(129)
    expected = stats.binom.pmf(counts, 128, 0.75) @ np.abs(counts - 96) / 128
    assert found.error == 0
    assert found.perfect_mean == pytest.approx(expected, rel=0.1)
    assert found.perfect_high == pytest.approx(1.96 * np.sqrt(0.75 * 0.25 / 128), rel=0.1)


def test_many_images_are_redrawn_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    probabilities, right = _predictions(400).probabilities, np.ones(400, dtype=bool)
    whole = calibration(probabilities, right)
    monkeypatch.setattr("beans_exp.report.runs.calibration.CHUNK", 400 * 7)
    assert calibration(probabilities, right).perfect_mean == pytest.approx(whole.perfect_mean)


def test_the_squared_error_without_chance_by_hand() -> None:
    """Four images at 0.9, two right: 0.4² - 0.25 / 3; the bin of a single image tells nothing."""
    found = Calibration(np.array([4, 1]), np.array([3.6, 0.5]), np.array([2, 1]), 0, 0)
    assert found.squared_error == pytest.approx(4 / 5 * (0.16 - 0.25 / 3))


def test_the_squared_error_of_a_calibrated_model_is_0_on_average() -> None:
    random = np.random.default_rng(0)
    chances = random.uniform(0.5, 1, 200)
    probabilities = np.stack([chances, 1 - chances], axis=1)
    bins = np.ceil(10 * chances).astype(int) - 1
    found = []
    for _ in range(500):
        right = random.random(200) < chances
        images, confidence, correct = (np.bincount(bins, values, 10) for values in (np.ones(200), chances, right))
        found.append(Calibration(images, confidence, correct, 0, 0).squared_error)
    assert np.mean(found) == pytest.approx(0, abs=0.001)
    assert calibration(probabilities, np.ones(200, dtype=bool)).squared_error > 0.02
