"""Intervals of one configuration's accuracy: its mean over seeds, and one more training."""

import numpy as np
from scipy.stats import t as student

from beans_exp.report.statistics.results import LEVEL
from beans_exp.report.statistics.variance import Side, Values, variance_of_mean


def interval_of_mean(right: np.ndarray) -> tuple[Values, Values]:
    """Return the 95 % interval of the mean accuracy over new images and new seeds.

    `right` is 0 or 1, (..., seeds, images), two seeds or more. It is Wilson's interval for as many images as
    independent ones would give the same variance, with the quantile of Student's t: it stays within 0 and 1.
    """
    side = Side.of(right.astype(np.float64))
    variance = variance_of_mean(side)
    binomial = side.mean * (1 - side.mean)
    with np.errstate(divide="ignore", invalid="ignore"):
        count = np.where(variance.total > 0, binomial / variance.total, float(side.images))
    square = student.ppf((1 + LEVEL) / 2, variance.freedom) ** 2
    center = (side.mean + square / (2 * count)) / (1 + square / count)
    half = np.sqrt(square * (binomial / count + square / (4 * count**2))) / (1 + square / count)
    return np.maximum(center - half, 0.0)[()], np.minimum(center + half, 1.0)[()]


def interval_of_next(right: np.ndarray) -> tuple[Values, Values]:
    """Return the 95 % prediction interval of the accuracy of one more training on the same images.

    `right` is 0 or 1, (..., seeds, images), two seeds or more. The variance of the seeds is never taken to be less
    than that of trainings that are equally good.
    """
    side = Side.of(right.astype(np.float64))
    spread = np.sqrt(side.seeds_and_both * side.seeds * (1 + 1 / side.seeds))
    half = student.ppf((1 + LEVEL) / 2, side.seeds - 1) * spread
    return np.maximum(side.mean - half, 0.0), np.minimum(side.mean + half, 1.0)
