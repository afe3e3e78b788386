"""Exact statistics against cases computed by hand and against SciPy and statsmodels."""

from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar

from beans_exp.report.statistics.exact import Differing, holm, mcnemar, sign_test, wilson
from beans_exp.report.statistics.results import Results


def _results(*rows: Sequence[int], seeds: Sequence[int] | None = None) -> Results:
    return Results(tuple(seeds or range(len(rows))), np.array(rows, dtype=bool))


@pytest.mark.parametrize(("right", "images"), [(89, 128), (0, 128), (128, 128), (3, 6)])
def test_wilson_equals_that_of_scipy(right: int, images: int) -> None:
    expected = stats.binomtest(right, images).proportion_ci(method="wilson")
    assert wilson(right, images) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_by_hand() -> None:
    """89 of 128: centre (89 + z²/2) / (128 + z²), half width z/(128 + z²) * sqrt(89 * 39 / 128 + z²/4)."""
    z = 1.959964
    centre, half = (89 + z**2 / 2) / (128 + z**2), z / (128 + z**2) * (89 * 39 / 128 + z**2 / 4) ** 0.5
    assert wilson(89, 128) == pytest.approx((centre - half, centre + half), abs=1e-6)


def test_mcnemar_by_hand_and_by_statsmodels() -> None:
    """One image only the group got right, nine only the baseline: p = 2 (1 + 10) / 2^10."""
    group, baseline = _results([1] + [0] * 9 + [1] * 5), _results([0] + [1] * 9 + [1] * 5)
    (test,) = mcnemar(group, baseline)
    assert (test.only_group, test.only_baseline) == (1, 9)
    assert test.p == pytest.approx(22 / 1024)
    assert test.p == pytest.approx(statsmodels_mcnemar([[5, 1], [9, 0]], exact=True).pvalue)


def test_mcnemar_pairs_runs_by_seed_only() -> None:
    group, baseline = _results([1, 1], [0, 0], seeds=[4, 7]), _results([0, 0], [1, 1], seeds=[7, 5])
    (test,) = mcnemar(group, baseline)
    assert (test.seed, test.only_group, test.only_baseline, test.p) == (7, 0, 0, 1)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


def test_the_sign_test_and_its_guard_by_hand() -> None:
    """3 : 0 has p = 2 / 2^3; six images in one direction are the fewest that are below 5 %."""
    assert sign_test(3, 0) == pytest.approx(0.25)
    assert sign_test(0, 0) == 1
    assert sign_test(2, 7) == pytest.approx(stats.binomtest(2, 9).pvalue)
    few = Differing(higher=3, lower=0, images=128)
    assert few.are_few and not Differing(3, 3, 128).are_few
    assert few.fewest(0.05) == 6
    upper = stats.binomtest(3, 128).proportion_ci(0.95, "exact")
    assert few.bounds(0.95) == pytest.approx((upper.low - (1 - 0.025 ** (1 / 128)), upper.high))
    assert few.p_within(0.05) == pytest.approx(stats.binom.cdf(3, 128, 0.05))
