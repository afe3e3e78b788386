"""The report's statistics against cases computed by hand and against SciPy and statsmodels."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar

from beans_exp.report.bootstrap import compare
from beans_exp.report.statistics import Results, holm, mcnemar, wilson
from beans_exp.report.verdicts import verdict_in_words


def _results(*rows: Sequence[int], seeds: Sequence[int] | None = None) -> Results:
    return Results(tuple(seeds or range(len(rows))), np.array(rows, dtype=bool))


def _random(seeds: int, images: int, accuracy: float, seed: int) -> Results:
    random = np.random.default_rng(seed)
    return Results(tuple(range(seeds)), random.random((seeds, images)) < accuracy)


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


def test_the_interval_of_one_seed_equals_the_paired_bootstrap_of_scipy() -> None:
    group, baseline = _random(1, 128, 0.8, 1), _random(1, 128, 0.7, 2)
    found = compare(group, baseline)
    expected = stats.bootstrap(
        (group.right[0].astype(float), baseline.right[0].astype(float)),
        lambda a, b, axis: a.mean(axis=axis) - b.mean(axis=axis),
        paired=True,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    assert found.difference == pytest.approx(group.right.mean() - baseline.right.mean())
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.012)
    assert found.one_seed


def test_equal_results_are_not_distinguishable() -> None:
    found = compare(_random(3, 50, 0.7, 1), _random(3, 50, 0.7, 1))
    assert (found.difference, found.low, found.high, found.p) == (0, 0, 0, 1)
    assert replace(found, p_holm=1.0).verdict == "not distinguishable"


def test_a_difference_on_every_image_is_certain() -> None:
    found = compare(_results([1] * 20, [1] * 20), _results([0] * 20, [0] * 20))
    assert (found.difference, found.low, found.high) == (1, 1, 1)
    assert found.p == pytest.approx(2 / 10_001)
    assert replace(found, p_holm=found.p).verdict == "better"


def test_a_reversed_comparison_is_its_mirror_image() -> None:
    a, b = _random(3, 128, 0.9, 1), _random(3, 128, 0.6, 2)
    forward, back = compare(a, b), compare(b, a)
    assert forward.difference == pytest.approx(-back.difference)
    assert (forward.low, forward.high) == pytest.approx((-back.high, -back.low), abs=0.01)
    assert replace(forward, p_holm=forward.p).verdict == "better"
    assert replace(back, p_holm=back.p).verdict == "worse"


def test_the_order_of_seeds_does_not_matter() -> None:
    a, b = _random(3, 60, 0.8, 1), _random(3, 60, 0.7, 2)
    turned = Results((2, 0, 1), a.right[[2, 0, 1]])
    assert compare(turned, b) == compare(a, b)


def test_seed_to_seed_variance_widens_the_interval() -> None:
    """Half of the seeds get all images right, the others 4 of 10: by the images alone it would be better."""
    good, bad = [1] * 100, [1, 1, 1, 1, 0, 0, 0, 0, 0, 0] * 10
    baseline = _results(*[[1, 1, 1, 1, 1, 0, 0, 0, 0, 0] * 10] * 4)
    assert compare(_results(good, bad, good, bad), baseline).p > 0.05
    assert compare(_results(good), _results(baseline.right[0].astype(int).tolist())).p < 0.001


def test_seeds_are_resampled_in_pairs_only_if_both_sides_have_the_same() -> None:
    a, b = _random(3, 60, 0.8, 1), _random(3, 60, 0.7, 2)
    assert compare(a, b).paired_seeds
    assert not compare(a, Results((0, 1, 5), b.right)).paired_seeds
    assert not compare(Results((0,), a.right[:1]), Results((0,), b.right[:1])).paired_seeds


def test_tests_on_different_images_are_refused() -> None:
    with pytest.raises(ValueError, match="50 and 60 test images cannot be paired"):
        compare(_random(1, 50, 0.7, 1), _random(1, 60, 0.7, 1))


def test_memory_is_bounded_and_chunks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = _random(2, 100, 0.8, 1), _random(2, 100, 0.7, 2)
    whole = compare(a, b)
    monkeypatch.setattr("beans_exp.report.bootstrap.CHUNK", 100 * 999)
    parts = compare(a, b)
    assert (parts.low, parts.high) == pytest.approx((whole.low, whole.high), abs=0.02)


def test_the_number_of_images_needed_by_hand() -> None:
    """One seed, 100 images, 6 against 2 that one side alone got right: the variance of a mean over n is v / n."""
    group, baseline = _results([1] * 6 + [0] * 2 + [1] * 92), _results([0] * 6 + [1] * 2 + [1] * 92)
    found = compare(group, baseline)
    variance = (0.08 - 0.04**2) * 100 / 99
    assert found.needs.images == pytest.approx(variance * (2.801585 / 0.04) ** 2, abs=1)
    assert found.needs.seeds is None
    verdict, rest = verdict_in_words(replace(found, p_holm=found.p))
    assert verdict == "not distinguishable"
    assert "detecting a difference of 4.0 points takes about 390 test images (now 100)" in rest
    assert "one seed cannot show seed-to-seed variance" in rest


def test_with_that_many_images_the_difference_is_detected_in_four_of_five_tries() -> None:
    wanted, found = 390, 0
    for seed in range(60):
        kinds = np.random.default_rng(seed).choice(3, size=wanted, p=[0.06, 0.02, 0.92])
        found += compare(_results((kinds != 1).tolist()), _results((kinds != 0).tolist()), draws=1000).p < 0.05
    assert 0.65 < found / 60 < 0.95


def test_a_verdict_on_one_seed_is_about_a_single_run() -> None:
    found = compare(_results([1] * 20), _results([0] * 20))
    verdict, rest = verdict_in_words(replace(found, p_holm=found.p))
    assert (verdict, rest) == ("better in this run", "one seed cannot show whether the configuration is better")


def test_a_p_that_loses_significance_by_the_correction_is_explained() -> None:
    found = replace(compare(_random(3, 128, 0.9, 1), _random(3, 128, 0.6, 2)), p=0.03, p_holm=0.09)
    assert verdict_in_words(found) == (
        "not distinguishable",
        "raw p is 0.03, but not significant after Holm's correction within this table",
    )
