"""Textbook statistics of accuracies on test images: Wilson's interval, McNemar's test, Holm's correction."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

LEVEL = 0.95


@dataclass(frozen=True)
class Results:
    """Which test images a configuration got right: bool (seeds, images), a row for each of `seeds`."""

    seeds: tuple[int, ...]
    right: np.ndarray

    @property
    def accuracies(self) -> np.ndarray:
        """The test accuracy of each seed, float64 (seeds,)."""
        return self.right.mean(axis=1)


@dataclass(frozen=True)
class McNemar:
    """The exact test on two runs with the same seed, from the images that only one of them got right."""

    seed: int
    only_group: int
    only_baseline: int
    p: float


def wilson(right: float, images: int) -> tuple[float, float]:
    """Return the 95 % Wilson interval of the accuracy `right` / `images`; `right` may be a mean over seeds."""
    low, high = proportion_confint(right, images, alpha=1 - LEVEL, method="wilson")
    return float(low), float(high)


def mcnemar(group: Results, baseline: Results) -> list[McNemar]:
    """Return the exact McNemar test (binomial, on the images that only one side got right) for each common seed."""
    tests = []
    for seed in sorted(set(group.seeds) & set(baseline.seeds)):
        ours = group.right[group.seeds.index(seed)].astype(bool)
        theirs = baseline.right[baseline.seeds.index(seed)].astype(bool)
        only_group, only_baseline = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
        split = only_group + only_baseline
        tests.append(McNemar(seed, only_group, only_baseline, binomtest(only_group, split).pvalue if split else 1.0))
    return tests


def holm(values: Sequence[float]) -> list[float]:
    """Return the p `values` of one table with Holm's correction, in their order."""
    return [float(value) for value in multipletests(values, method="holm")[1]] if values else []
