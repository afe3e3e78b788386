"""Intervals of one configuration and of gaps, and forecasts, against cases computed by hand and by simulation."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from beans_exp.report.statistics import compare_accuracies
from beans_exp.report.statistics.forecast import forecast
from beans_exp.report.statistics.gap import compare_gaps, interval_of_gap
from beans_exp.report.statistics.means import interval_of_mean, interval_of_next


def _trainings(counts: tuple[int, ...], images: int = 100, seed: int = 0) -> np.ndarray:
    """Return bool (seeds, images), where each training gets some of `counts` right, at random places."""
    random = np.random.default_rng(seed)
    return np.array([random.permutation(images) < count for count in counts])


def test_the_prediction_of_one_more_training_by_hand() -> None:
    right = _trainings((60, 80, 70))
    half = stats.t.ppf(0.975, 2) * 0.1 * (1 + 1 / 3) ** 0.5
    assert interval_of_next(right) == pytest.approx((0.7 - half, min(1, 0.7 + half)))


def test_equally_good_trainings_are_not_predicted_to_be_exactly_equal() -> None:
    low, high = interval_of_next(_trainings((70, 70, 70)))
    assert 0.45 < low < 0.7 < high < 0.95


def test_the_interval_of_a_mean_without_variance_over_seeds_is_that_of_wilson() -> None:
    same = np.tile(_trainings((70,)), (5, 1))
    expected = stats.binomtest(70, 100).proportion_ci(method="wilson")
    assert interval_of_mean(same) == pytest.approx((expected.low, expected.high), abs=0.003)


@pytest.mark.parametrize("accuracy", [0, 100])
def test_the_interval_of_a_mean_stays_within_0_and_1(accuracy: int) -> None:
    low, high = interval_of_mean(_trainings((accuracy, accuracy)))
    assert 0 <= low <= accuracy / 100 <= high <= 1
    assert 0.03 < high - low < 0.06


def test_gaps_are_compared_over_seeds_by_welch() -> None:
    ours, theirs = np.array([0.10, 0.12, 0.11]), np.array([0.30, 0.26, 0.25, 0.31])
    found = compare_gaps(ours, theirs)
    assert found is not None
    assert found.p == pytest.approx(stats.ttest_ind(ours, theirs, equal_var=False).pvalue)
    assert found.difference == pytest.approx(-0.17)
    assert found.low < -0.17 < found.high < 0
    assert replace(found, p_holm=found.p).verdict == "narrower"
    assert found.verdict == "not distinguishable", "before the correction there is no verdict"


@pytest.mark.parametrize("gaps", [[0.1], [0.1, 0.1], []])
def test_gaps_that_do_not_vary_have_no_interval(gaps: list[float]) -> None:
    assert interval_of_gap(np.array(gaps)) is None
    assert compare_gaps(np.array(gaps), np.array([0.1, 0.2])) is None


def test_a_few_seeds_promise_a_range_of_seeds_and_no_images() -> None:
    found = forecast(compare_accuracies(_trainings((88, 84, 80)), _trainings((76, 78, 77), seed=1)), 0.95)
    low, high = found.seeds
    assert low is not None and high is not None
    assert 3 <= low < high
    assert found.images is None


def test_a_corrected_level_takes_more_seeds() -> None:
    contrast = compare_accuracies(_trainings((88, 84, 80)), _trainings((76, 78, 77), seed=1))
    (single, _), (corrected, _) = forecast(contrast, 0.95).seeds, forecast(contrast, 0.995).seeds
    assert single is not None and corrected is not None
    assert single < corrected


def test_where_the_images_alone_are_too_few_no_number_of_seeds_is_enough() -> None:
    """The same seven of 100 images are won and the same two lost in every seed."""
    baseline = np.ones((5, 100))
    baseline[:, :7] = 0
    group = np.ones((5, 100))
    group[:, 7:9] = 0
    found = forecast(compare_accuracies(group, baseline), 0.95)
    assert found.seeds == (None, None)
    variance = np.var(group[0] - baseline[0], ddof=1)
    expected = variance * (stats.norm.ppf([0.975, 0.8]).sum() / 0.05) ** 2
    assert found.images == pytest.approx(expected, rel=0.03)


def test_the_promised_images_detect_the_difference_in_four_of_five_tries() -> None:
    """The images that `forecast` tells from 0.07 : 0.02 in every seed."""
    random = np.random.default_rng(0)
    kinds = random.choice(3, size=(400, 1, 300), p=[0.07, 0.02, 0.91])
    group, baseline = (np.repeat(kinds != kind, 5, axis=1) for kind in (1, 0))
    wanted = int(np.median([forecast(compare_accuracies(group[n], baseline[n]), 0.95).images or 0 for n in range(30)]))
    kinds = random.choice(3, size=(400, 1, wanted), p=[0.07, 0.02, 0.91])
    group, baseline = (np.repeat(kinds != kind, 5, axis=1) for kind in (1, 0))
    assert 0.7 < (compare_accuracies(group, baseline).p < 0.05).mean() < 0.9
