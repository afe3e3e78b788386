"""The variance of a mean accuracy over seeds and images, or of a difference of two, by its sources.

The analysis is that of multi-reader multi-case studies (Obuchowski and Rockette 1995, degrees of freedom after Hillis
2007): test images are the cases, and training seeds are the readers, drawn anew for each configuration.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

Values: TypeAlias = Any
"""A float, or an array of floats with a value for each of many comparisons."""


@dataclass(frozen=True)
class Side:
    """One configuration: `right` (..., seeds, images) reduced to means and mean squares."""

    seeds: int
    images: int
    mean: Values
    by_image: np.ndarray
    """The mean over seeds of each image, (..., images)."""
    of_seeds: Values
    """Mean square of the seeds."""
    of_both: Values
    """Mean square of the interaction of seeds and images."""

    @classmethod
    def of(cls, right: np.ndarray) -> "Side":
        """Reduce `right` (..., seeds, images), two seeds and two images or more."""
        seeds, images = right.shape[-2:]
        by_seed, by_image = right.mean(axis=-1), right.mean(axis=-2)
        mean = by_seed.mean(axis=-1)
        rest = right - by_seed[..., None] - by_image[..., None, :] + np.asarray(mean)[..., None, None]
        of_both = (rest**2).sum(axis=(-1, -2)) / ((seeds - 1) * (images - 1))
        return cls(seeds, images, mean, by_image, images * by_seed.var(axis=-1, ddof=1), of_both)

    @property
    def both(self) -> Values:
        """The part of the variance of `mean` that the interaction of seeds and images causes."""
        return self.of_both / (self.seeds * self.images)

    @property
    def seeds_and_both(self) -> Values:
        """The part that seeds and the interaction cause; the seeds' own is never estimated below 0."""
        return np.maximum(self.of_seeds, self.of_both) / (self.seeds * self.images)


@dataclass(frozen=True)
class Variance:
    """The variance of a mean or of a difference of means: the sum of three parts, and its degrees of freedom."""

    images: Values
    """Caused by the choice of test images: new images would give another result with the same trainings."""
    seeds: Values
    """Caused by the seeds: another training would be better or worse on all images alike."""
    both: Values
    """Caused by their interaction: another training would get other images right."""
    freedom: Values

    @property
    def total(self) -> Values:
        """The variance."""
        return self.images + self.seeds + self.both


def variance_of_mean(side: Side) -> Variance:
    """Return the variance of a mean accuracy over new images and new seeds."""
    return _variance([side], side.by_image)


def variance_of_difference(group: Side, baseline: Side) -> Variance:
    """Return the variance of a difference of mean accuracies over new images, shared by both, and new seeds."""
    by_image = group.by_image - baseline.by_image
    if group.seeds == baseline.seeds == 2:
        return _variance_of_pairs(group, baseline, by_image)
    return _variance([group, baseline], by_image)


def _variance(sides: Sequence[Side], by_image: np.ndarray) -> Variance:
    both = sum(side.both for side in sides)
    parts = [(side.seeds_and_both, side.seeds - 1) for side in sides]
    of_images = _of_images(by_image, both)
    freedom = _freedom([*parts, (of_images, by_image.shape[-1] - 1)])
    return Variance(of_images, sum(part for part, _ in parts) - both, both, freedom)


def _variance_of_pairs(group: Side, baseline: Side, by_image: np.ndarray) -> Variance:
    """Return the variance for two seeds on each side, whose own mean squares have one degree of freedom.

    Both sides share their mean squares; the interaction counts twice, with its own many degrees of freedom. In
    simulations (docs/statistics.md) this keeps the level where the plain analysis finds less.
    """
    images = by_image.shape[-1]
    both = group.both + baseline.both
    of_seeds = np.maximum((group.of_seeds + baseline.of_seeds) / (2 * images) - both, 0)
    of_images = _of_images(by_image, both)
    freedom = _freedom([(of_seeds, 2), (2 * both, 2 * (images - 1)), (of_images, images - 1)])
    return Variance(of_images, of_seeds, 2 * both, freedom)


def _of_images(by_image: np.ndarray, both: Values) -> Values:
    return np.maximum(by_image.var(axis=-1, ddof=1) / by_image.shape[-1] - both, 0)


def _freedom(parts: Sequence[tuple[Values, int]]) -> Values:
    """Return Satterthwaite's degrees of freedom of a sum of (variance, its own); the most of any where all are 0."""
    total, squares = sum(part for part, _ in parts), sum(part**2 / own for part, own in parts)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(squares > 0, total**2 / squares, float(max(own for _, own in parts)))[()]
