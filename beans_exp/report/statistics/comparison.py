"""Two configurations compared as their numbers of seeds allow, and the verdict within a family of comparisons."""

from dataclasses import dataclass
from math import nan

from beans_exp.report.statistics.contrast import Contrast, compare_accuracies
from beans_exp.report.statistics.exact import McNemar, mcnemar, mcnemar_of_seeds
from beans_exp.report.statistics.results import LEVEL, Results

MARGIN = 0.05
"""A difference that does not matter, unless told otherwise: 5 points."""
BETTER, WORSE, SAME, UNDECIDED = "better", "worse", "same", "not distinguishable"
DIFFER, ALIKE = "these two trainings differ", "these two trainings are not distinguishable"


@dataclass(frozen=True)
class Comparison:
    """A configuration against its baseline: a contrast, or with one seed on a side a test of two trainings."""

    difference: float
    images: int
    seeds: tuple[int, int]
    """Of the configuration and of the baseline."""
    mcnemar: list[McNemar]
    """For each pair of runs with the same seed; without a contrast, the first is the one that `p` is from."""
    contrast: Contrast | None
    """None with one seed on a side, which cannot show seed-to-seed variance, or with one test image."""
    margin: float = MARGIN
    family: int = 1
    """The number of comparisons that `p_holm` and `p_same_holm` are corrected for."""
    p_holm: float = nan
    p_same_holm: float = nan

    @property
    def one_seed(self) -> bool:
        """Whether seed-to-seed variance is unknown: at least one side has a single run."""
        return min(self.seeds) == 1

    @property
    def p(self) -> float:
        """Of the contrast, or of the exact McNemar test of two trainings."""
        return float(self.contrast.p) if self.contrast else self.mcnemar[0].p

    @property
    def p_same(self) -> float:
        """Of the hypothesis that the difference is `margin` or more; 1 with one seed on a side."""
        return float(self.contrast.p_same(self.margin)) if self.contrast else 1.0

    @property
    def corrected_level(self) -> float:
        """The level of one of `family` comparisons whose errors together stay below 5 % (Bonferroni)."""
        return 1 - (1 - LEVEL) / self.family

    @property
    def verdict(self) -> str:
        """One of the constants above, by the corrected p."""
        if self.contrast is None:
            return DIFFER if self.p_holm < 1 - LEVEL else ALIKE
        if self.p_holm < 1 - LEVEL:
            return BETTER if self.difference > 0 else WORSE
        return SAME if self.p_same_holm < 1 - LEVEL else UNDECIDED


def compare(group: Results, baseline: Results, margin: float = MARGIN) -> Comparison:
    """Compare two configurations that were tested on the same images in the same order.

    Raises ValueError if the numbers of images differ.
    """
    images = group.right.shape[1]
    if images != baseline.right.shape[1]:
        raise ValueError(f"{images} and {baseline.right.shape[1]} test images cannot be paired")
    seeds = len(group.seeds), len(baseline.seeds)
    contrast = compare_accuracies(group.right, baseline.right) if min(*seeds, images) > 1 else None
    difference = float(group.right.mean() - baseline.right.mean())
    tests = mcnemar(group, baseline)
    if contrast is None and not tests:
        tests = [mcnemar_of_seeds(group, baseline, min(group.seeds), min(baseline.seeds))]
    return Comparison(difference, images, seeds, tests, contrast, margin)
