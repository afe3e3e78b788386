"""The report's statistics against cases computed by hand and against SciPy, statsmodels and scikit-learn."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, precision_recall_fscore_support
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar

from beans_exp.report.convergence import area, convergence, reached
from beans_exp.report.groups import Curve, FinishedRun, Group
from beans_exp.report.predictions import calibration, reduce
from beans_exp.report.statistics import Results, compare, holm, mcnemar, verdict_in_words, wilson
from beans_exp.tracking.reader import Predictions


def _results(*rows: Sequence[int], seeds: Sequence[int] | None = None) -> Results:
    return Results(tuple(seeds or range(len(rows))), np.array(rows, dtype=bool))


def _random(seeds: int, images: int, accuracy: float, seed: int) -> Results:
    random = np.random.default_rng(seed)
    return Results(tuple(range(seeds)), random.random((seeds, images)) < accuracy)


@pytest.mark.parametrize(("right", "images"), [(89, 128), (0, 128), (128, 128), (3, 6)])
def test_wilson_is_scipys(right: int, images: int) -> None:
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


def test_mcnemar_pairs_by_seed_and_knows_no_other_pairs() -> None:
    group, baseline = _results([1, 1], [0, 0], seeds=[4, 7]), _results([0, 0], [1, 1], seeds=[7, 5])
    (test,) = mcnemar(group, baseline)
    assert (test.seed, test.only_group, test.only_baseline, test.p) == (7, 0, 0, 1)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


def test_the_interval_of_one_seed_is_scipys_paired_bootstrap() -> None:
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


def test_a_comparison_turned_round_is_its_mirror_image() -> None:
    a, b = _random(3, 128, 0.9, 1), _random(3, 128, 0.6, 2)
    there, back = compare(a, b), compare(b, a)
    assert there.difference == pytest.approx(-back.difference)
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low), abs=0.01)
    assert replace(there, p_holm=there.p).verdict == "better"
    assert replace(back, p_holm=back.p).verdict == "worse"


def test_the_order_of_seeds_does_not_matter() -> None:
    a, b = _random(3, 60, 0.8, 1), _random(3, 60, 0.7, 2)
    turned = Results((2, 0, 1), a.right[[2, 0, 1]])
    assert compare(turned, b) == compare(a, b)


def test_the_luck_of_seeds_widens_the_interval() -> None:
    """Half of the seeds get all images right, the others 4 of 10: the images alone would say better."""
    good, bad = [1] * 100, [1, 1, 1, 1, 0, 0, 0, 0, 0, 0] * 10
    baseline = _results(*[[1, 1, 1, 1, 1, 0, 0, 0, 0, 0] * 10] * 4)
    assert compare(_results(good, bad, good, bad), baseline).p > 0.05
    assert compare(_results(good), _results(baseline.right[0].astype(int).tolist())).p < 0.001


def test_seeds_are_drawn_in_pairs_only_where_both_sides_have_the_same() -> None:
    a, b = _random(3, 60, 0.8, 1), _random(3, 60, 0.7, 2)
    assert compare(a, b).paired_seeds
    assert not compare(a, Results((0, 1, 5), b.right)).paired_seeds
    assert not compare(Results((0,), a.right[:1]), Results((0,), b.right[:1])).paired_seeds


def test_tests_on_other_images_are_refused() -> None:
    with pytest.raises(ValueError, match="50 and 60 test images cannot be paired"):
        compare(_random(1, 50, 0.7, 1), _random(1, 60, 0.7, 1))


def test_memory_is_bounded_and_the_result_the_same_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = _random(2, 100, 0.8, 1), _random(2, 100, 0.7, 2)
    whole = compare(a, b)
    monkeypatch.setattr("beans_exp.report.statistics.CHUNK", 100 * 999)
    parts = compare(a, b)
    assert (parts.low, parts.high) == pytest.approx((whole.low, whole.high), abs=0.02)


def test_how_many_images_would_tell_by_hand() -> None:
    """One seed, 100 images, 6 against 2 that one side alone got right: the variance of a mean over n is v / n."""
    group, baseline = _results([1] * 6 + [0] * 2 + [1] * 92), _results([0] * 6 + [1] * 2 + [1] * 92)
    found = compare(group, baseline)
    variance = (0.08 - 0.04**2) * 100 / 99
    assert found.needs.images == pytest.approx(variance * (2.801585 / 0.04) ** 2, abs=1)
    assert found.needs.seeds is None
    verdict, rest = verdict_in_words(replace(found, p_holm=found.p))
    assert verdict == "not distinguishable"
    assert "4.0 points, if real, would take some 390 test images (there are 100)" in rest
    assert "one seed tells nothing" in rest


def test_with_that_many_images_the_difference_is_found_in_four_of_five_tries() -> None:
    wanted, found = 390, 0
    for seed in range(60):
        kinds = np.random.default_rng(seed).choice(3, size=wanted, p=[0.06, 0.02, 0.92])
        found += compare(_results((kinds != 1).tolist()), _results((kinds != 0).tolist()), draws=1000).p < 0.05
    assert 0.65 < found / 60 < 0.95


def test_a_verdict_on_one_seed_is_one_on_a_training() -> None:
    found = compare(_results([1] * 20), _results([0] * 20))
    verdict, rest = verdict_in_words(replace(found, p_holm=found.p))
    assert (verdict, rest) == ("better in this training", "one seed does not say whether the configuration is")


def test_a_p_that_holm_takes_back_is_said_so() -> None:
    found = replace(compare(_random(3, 128, 0.9, 1), _random(3, 128, 0.6, 2)), p=0.03, p_holm=0.09)
    assert verdict_in_words(found) == (
        "not distinguishable",
        "p alone is 0.03, which does not stand among the comparisons of this table",
    )


# predictions


def _predictions(images: int = 40) -> Predictions:
    random = np.random.default_rng(3)
    raw = random.random((images, 3)) ** 3
    probabilities = raw / raw.sum(axis=1, keepdims=True)
    return Predictions(("a", "b", "c"), random.integers(0, 3, images), probabilities.argmax(axis=1), probabilities)


def test_calibration_by_hand() -> None:
    """Two predictions at 0.9, one right: |1.8 - 1|; two at 0.6, both right: |1.2 - 2|; together 1.6 of 4."""
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4]])
    assert calibration(probabilities, np.array([True, False, True, True])).error == pytest.approx(1.6 / 4)


def test_calibration_bins_are_scikit_learns() -> None:
    predictions = _predictions(400)
    right = predictions.labels == predictions.predicted
    found = calibration(predictions.probabilities, right)
    used = found.images > 0
    expected = calibration_curve(right, predictions.probabilities.max(axis=1), n_bins=10)
    assert found.right[used] / found.images[used] == pytest.approx(expected[0])
    assert found.confidence[used] / found.images[used] == pytest.approx(expected[1])


def test_figures_by_class_are_scikit_learns() -> None:
    predictions = _predictions()
    found = reduce(predictions)
    expected = precision_recall_fscore_support(predictions.labels, predictions.predicted, zero_division=0)
    for name, values in zip(("precision", "recall", "f1"), expected[:3], strict=True):
        assert found.by_class[name] == pytest.approx(values)
    onehot = np.eye(3)[predictions.labels]
    assert found.brier == pytest.approx(((predictions.probabilities - onehot) ** 2).sum(axis=1).mean())
    assert found.confusion.sum() == 40
    assert found.confusion.trace() == found.right.sum()


def test_the_brier_score_of_two_classes_is_twice_the_usual_one() -> None:
    chances = np.array([0.1, 0.6, 0.8])
    labels = np.array([0, 0, 1])
    found = reduce(Predictions(("no", "yes"), labels, (chances > 0.5).astype(int), np.stack([1 - chances, chances], 1)))
    assert found.brier == pytest.approx(2 * brier_score_loss(labels, chances))


def test_a_class_that_is_never_predicted_has_no_warning_and_no_precision() -> None:
    found = reduce(Predictions(("a", "b"), np.array([0, 1]), np.array([0, 0]), np.array([[0.9, 0.1], [0.8, 0.2]])))
    assert found.by_class["precision"].tolist() == [0.5, 0]


# convergence


def _run(validation: Sequence[float], seed: int = 0, features: float = 0) -> FinishedRun:
    values = np.array(validation, dtype=np.float32)
    curve = Curve(values, values, np.full(len(values), 10, dtype=np.float32), None)
    return FinishedRun(
        "r", "r", seed, 0, len(values), {"time/features_seconds": features}, curve, None, has_model=False
    )


def test_reaching_a_threshold_by_hand() -> None:
    found = reached(_run([0.5, 0.7, 0.8, 0.6], features=90), 0.7)
    assert (found.epoch, found.seconds, found.held) == (2, 110, False)
    assert reached(_run([0.5, 0.6]), 0.7).epoch == np.inf


def test_the_area_holds_the_last_value_so_that_a_bad_end_does_not_look_fast() -> None:
    assert area(np.array([0.5, 0.9]), 4) == pytest.approx((0.5 + 0.9 + 0.9 + 0.9) / 4)
    assert area(np.array([0.9, 0.9, 0.1]), 10) < area(np.array([0.3, 0.6, 0.8]), 10)


def test_a_run_that_never_gets_there_counts_as_endless() -> None:
    runs = [_run([0.8, 0.8]), _run([0.5, 0.8], seed=1), _run([0.5, 0.5], seed=2)]
    group = Group({}, None, {run.seed: run for run in runs})
    found = convergence(group, 0.75, 2)
    assert found is not None
    assert (found.epochs, found.seconds, found.reached, found.held, found.runs) == (2, 20, 2, 2, 3)
    group.done[1] = _run([0.5, 0.5], seed=1)
    found = convergence(group, 0.75, 2)
    assert found is not None
    assert found.epochs == np.inf
