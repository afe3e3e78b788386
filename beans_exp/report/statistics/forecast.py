"""What more data would show: the seeds or the images that detect the observed difference, if it is the true one."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2, nct
from scipy.stats import t as student

from beans_exp.report.statistics.contrast import Contrast

POWER = 0.8
RANGE = 0.8
"""Probability that a true variance lies in the range of its estimate that the number of seeds is given for."""
MOST_SEEDS = 1000
MOST_IMAGES = 100
"""Times the present number of images, above which no number is given."""
ENOUGH_SEEDS = 5
"""With fewer, the variance of the seeds is too uncertain to promise anything of new images."""


@dataclass(frozen=True)
class Forecast:
    """The data that detect the observed difference with a power of 80 % at a level, if it is the true one."""

    seeds: tuple[int | None, int | None]
    """Seeds per side with the present images, from the least to the most; None if no number is enough."""
    images: int | None
    """Test images with the present seeds; None if no number is enough, or with fewer than five seeds."""
    detectable: float
    """The smallest difference that the present seeds and images detect."""


def forecast(contrast: Contrast, level: float) -> Forecast:
    """Return what detects the difference of one `contrast` with p below 1 - `level`."""
    factors = zip(_uncertainty(sum(contrast.seeds) - 2), _uncertainty(contrast.images - 1), strict=True)
    seeds = tuple(_seeds_needed(contrast, level, *factor) for factor in factors)
    images = _images_needed(contrast, level) if min(contrast.seeds) >= ENOUGH_SEEDS else None
    variance = contrast.variance
    quantiles = student.ppf([(1 + level) / 2, POWER], variance.freedom).sum()
    least = contrast.differing.fewest(1 - level) / contrast.images
    return Forecast((seeds[0], seeds[1]), images, min(1.0, float(max(quantiles * np.sqrt(variance.total), least))))


def _uncertainty(freedom: int) -> tuple[float, float]:
    """Return the factors between the estimate of a variance and the bounds of its `RANGE`."""
    low, high = chi2.ppf([(1 + RANGE) / 2, (1 - RANGE) / 2], freedom)
    return float(freedom / low), float(freedom / high)


def _seeds_needed(contrast: Contrast, level: float, of_seeds: float, of_images: float) -> int | None:
    """Return the seeds per side if variances are that many times their estimates: what seeds reduce, and the rest."""
    seeds = np.arange(2, MOST_SEEDS + 1)
    present = len(contrast.seeds) / sum(1 / count for count in contrast.seeds)
    part = of_seeds * (contrast.variance.seeds + contrast.variance.both) * present / seeds
    images = np.full(seeds.shape, of_images * contrast.variance.images)
    return _first(seeds, _power(contrast, part, 2 * (seeds - 1), images, contrast.images - 1, level))


def _images_needed(contrast: Contrast, level: float) -> int | None:
    times = np.geomspace(1 / 4, MOST_IMAGES, 400)
    variance, freedom = contrast.variance, sum(contrast.seeds) - 2
    part, images = variance.seeds + variance.both / times, variance.images / times
    return _first(times * contrast.images, _power(contrast, part, freedom, images, times * contrast.images - 1, level))


def _power(
    contrast: Contrast,
    part: np.ndarray,
    own: np.ndarray | int,
    images: np.ndarray,
    count: np.ndarray | int,
    level: float,
) -> np.ndarray:
    """Return the power with the variances `part` (`own` degrees of freedom) and `images` (`count`)."""
    total = part + images
    with np.errstate(divide="ignore", invalid="ignore"):
        freedom = np.where(total > 0, total**2 / (part**2 / own + images**2 / count), np.inf)
        distance = np.where(total > 0, abs(contrast.difference) / np.sqrt(total), np.inf)
    freedom = np.clip(freedom, 1, 1e6)
    return nct.sf(student.ppf((1 + level) / 2, freedom), freedom, np.minimum(distance, 30.0))


def _first(counts: np.ndarray, power: np.ndarray) -> int | None:
    """Return the smallest of `counts` from which on the power is enough."""
    enough = np.flatnonzero(power >= POWER)
    return int(np.ceil(counts[enough[0]])) if enough.size else None
