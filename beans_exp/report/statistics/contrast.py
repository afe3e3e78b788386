"""Two configurations compared on the same test images, each trained with several seeds."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from beans_exp.report.statistics.exact import Differing
from beans_exp.report.statistics.results import LEVEL
from beans_exp.report.statistics.variance import Side, Values, Variance, variance_of_difference


@dataclass(frozen=True)
class Contrast:
    """An accuracy minus that of its baseline (1 = 100 points) over new images and new seeds, with its uncertainty."""

    difference: Values
    low: Values
    """The bounds of the 95 % interval."""
    high: Values
    p: Values
    """Of the hypothesis that both are equal."""
    variance: Variance
    """Of the difference, by its sources."""
    differing: Differing
    images: int
    seeds: tuple[int, int]
    """Of the configuration and of the baseline."""

    def p_same(self, margin: float) -> Values:
        """Return the p of two one-sided tests: small if the difference is less than `margin` in either direction."""
        p = _upper_tail(margin - abs(self.difference), self.variance)
        return _where(self.differing.are_few, np.maximum(p, self.differing.p_within(margin)), p)

    def margin(self, level: float = LEVEL) -> Values:
        """Return the smallest margin for which `p_same` is below 1 - `level`."""
        quantile = student.ppf(level, self.variance.freedom)
        margin = abs(self.difference) + quantile * np.sqrt(self.variance.total)
        low, high = self.differing.bounds(2 * level - 1)
        return _where(self.differing.are_few, np.maximum(margin, np.maximum(-low, high)), margin)


def compare_accuracies(group: np.ndarray, baseline: np.ndarray) -> Contrast:
    """Compare two configurations that were tested on the same images in the same order.

    `group` and `baseline` are 0 or 1, (seeds, images): whether each training got each image right; the numbers of
    seeds may differ. Leading axes, the same in both, hold further comparisons: every result is then an array over
    them. The difference of the means gets a t interval and p with the variance of `variance_of_difference`. Where fewer
    than six images differ, or nothing varies, an exact sign test on the images must agree: p is the larger one, and the
    interval includes the exact one.

    Raises ValueError for a side with fewer than two seeds or images, and for different numbers of images.
    """
    _check(group.shape, baseline.shape)
    sides = Side.of(group.astype(np.float64)), Side.of(baseline.astype(np.float64))
    difference, variance = sides[0].mean - sides[1].mean, variance_of_difference(*sides)
    differing = Differing.of(sides[0].by_image - sides[1].by_image)
    half = student.ppf((1 + LEVEL) / 2, variance.freedom) * np.sqrt(variance.total)
    p = 2 * _upper_tail(abs(difference), variance)
    guarded = differing.are_few | (variance.total <= 0)
    low, high = differing.bounds(LEVEL)
    return Contrast(
        difference,
        np.maximum(-1.0, _where(guarded, np.minimum(difference - half, low), difference - half)),
        np.minimum(1.0, _where(guarded, np.maximum(difference + half, high), difference + half)),
        _where(guarded, np.maximum(p, differing.p), p),
        variance,
        differing,
        sides[0].images,
        (sides[0].seeds, sides[1].seeds),
    )


def _where(condition: Values, chosen: Values, otherwise: Values) -> Values:
    """Return `chosen` where `condition` holds; a number for numbers."""
    return np.asarray(np.where(condition, chosen, otherwise))[()]


def _check(group: tuple[int, ...], baseline: tuple[int, ...]) -> None:
    if group[-1] != baseline[-1]:
        raise ValueError(f"{group[-1]} and {baseline[-1]} test images cannot be paired")
    for name, least in (("images", group[-1]), ("seeds", min(group[-2], baseline[-2]))):
        if least < 2:
            raise ValueError(f"{least} {name}: must be two or more on both sides")


def _upper_tail(distance: Values, variance: Variance) -> Values:
    """Return the probability that Student's t exceeds `distance` in standard errors; without any, 0 or 1/2 or 1."""
    error = np.sqrt(variance.total)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(error > 0, distance / error, np.where(distance == 0, 0.0, np.inf * np.sign(distance)))
    return student.sf(ratio, variance.freedom)
