"""The gap between training and validation accuracy: its mean over seeds, and that of two configurations."""

from dataclasses import dataclass
from math import nan

import numpy as np
from scipy.stats import ttest_1samp, ttest_ind

from beans_exp.report.statistics.results import LEVEL

NARROWER, WIDER, UNDECIDED = "narrower", "wider", "not distinguishable"


@dataclass(frozen=True)
class GapContrast:
    """The mean gap of a configuration minus that of its baseline over new seeds, on the same images."""

    difference: float
    low: float
    """The bounds of the 95 % interval."""
    high: float
    p: float
    seeds: tuple[int, int]
    p_holm: float = nan

    @property
    def verdict(self) -> str:
        """`narrower`, `wider` or `not distinguishable`, by the corrected p."""
        if not self.p_holm < 1 - LEVEL:
            return UNDECIDED
        return NARROWER if self.difference < 0 else WIDER


def interval_of_gap(gaps: np.ndarray) -> tuple[float, float] | None:
    """Return the 95 % t interval of the mean of `gaps` (seeds,); None if they cannot show seed-to-seed variance."""
    if len(gaps) < 2 or np.ptp(gaps) == 0:
        return None
    found = ttest_1samp(gaps, 0).confidence_interval(LEVEL)
    return float(found.low), float(found.high)


def compare_gaps(group: np.ndarray, baseline: np.ndarray) -> GapContrast | None:
    """Compare the gaps (seeds,) of two configurations by Welch's t test; None without two different ones per side."""
    if interval_of_gap(group) is None or interval_of_gap(baseline) is None:
        return None
    test = ttest_ind(group, baseline, equal_var=False)
    interval = test.confidence_interval(LEVEL)
    difference = float(group.mean() - baseline.mean())
    seeds = len(group), len(baseline)
    return GapContrast(difference, float(interval.low), float(interval.high), float(test.pvalue), seeds)
