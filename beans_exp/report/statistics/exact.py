"""Exact statistics of counted images, and Holm's correction: nothing here assumes that a mean is normal."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binom
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from beans_exp.report.statistics.results import LEVEL, Results
from beans_exp.report.statistics.variance import Values

FEW = 6
"""Differing images below which an exact test must agree: five of five have p = 0.0625."""

ROUNDING = 1e-9
"""Means over seeds that differ by less are equal."""


@dataclass(frozen=True)
class McNemar:
    """The exact test on two trainings, from the images that only one of them got right."""

    seed: int
    seed_baseline: int
    only_group: int
    only_baseline: int
    p: float


@dataclass(frozen=True)
class Differing:
    """How many of `images` test images have a mean over seeds that is higher, or lower, than the baseline's."""

    higher: Values
    lower: Values
    images: int

    @classmethod
    def of(cls, by_image: np.ndarray) -> "Differing":
        """Count the differences `by_image` (..., images)."""
        higher, lower = ((sign * by_image > ROUNDING).sum(axis=-1) for sign in (1, -1))
        return cls(higher, lower, by_image.shape[-1])

    @property
    def are_few(self) -> Values:
        """Whether an exact test must agree with any other."""
        return self.higher + self.lower < FEW

    @property
    def p(self) -> Values:
        """Of the exact, two-sided sign test."""
        return sign_test(self.higher, self.lower)

    def bounds(self, level: float) -> tuple[Values, Values]:
        """Return exact (Clopper-Pearson) bounds of the difference of two trainings."""
        higher, lower = (
            proportion_confint(count, self.images, alpha=1 - level, method="beta")
            for count in (self.higher, self.lower)
        )
        return higher[0] - lower[1], higher[1] - lower[0]

    def fewest(self, alpha: float) -> int:
        """Return how many images must differ, all in one direction, for an exact p below `alpha`."""
        return int(np.floor(1 - np.log2(alpha))) + 1

    def p_within(self, margin: float) -> Values:
        """Return the exact p of the hypothesis that `margin` or more of all images differ in one direction."""
        return binom.cdf(np.maximum(self.higher, self.lower), self.images, margin)


def sign_test(first: Values, second: Values) -> Values:
    """Return the p of the exact two-sided sign test on two counts; 1 if both are 0."""
    return np.minimum(1.0, 2 * binom.cdf(np.minimum(first, second), first + second, 0.5))


def wilson(right: float, images: int) -> tuple[float, float]:
    """Return the 95 % Wilson interval of the accuracy of one training on new images."""
    low, high = proportion_confint(right, images, alpha=1 - LEVEL, method="wilson")
    return float(low), float(high)


def mcnemar(group: Results, baseline: Results) -> list[McNemar]:
    """Return the exact McNemar test of the two trainings with each common seed."""
    common = sorted(set(group.seeds) & set(baseline.seeds))
    return [mcnemar_of_seeds(group, baseline, seed, seed) for seed in common]


def mcnemar_of_seeds(group: Results, baseline: Results, seed: int, seed_baseline: int) -> McNemar:
    """Return the exact McNemar test of two trainings: a sign test on the images that only one of them got right."""
    ours = group.right[group.seeds.index(seed)].astype(bool)
    theirs = baseline.right[baseline.seeds.index(seed_baseline)].astype(bool)
    only_group, only_baseline = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    return McNemar(seed, seed_baseline, only_group, only_baseline, float(sign_test(only_group, only_baseline)))


def holm(values: Sequence[float]) -> list[float]:
    """Return the p `values` of one family with Holm's correction, in their order."""
    return [float(value) for value in multipletests(values, method="holm")[1]] if values else []
