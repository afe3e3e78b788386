"""The contrast of two configurations against a worked example, its mirror image, and results without variance."""

from dataclasses import astuple

import numpy as np
import pytest

from beans_exp.report.statistics import compare_accuracies
from beans_exp.report.statistics.forecast import forecast


def _right(rows: str) -> np.ndarray:
    """Return bool (seeds, images) from words of 0 and 1, a word for each seed."""
    return np.array([[digit == "1" for digit in word] for word in rows.split()])


def _random(seeds: int, accuracy: float, seed: int, images: int = 128) -> np.ndarray:
    return np.random.default_rng(seed).random((seeds, images)) < accuracy


GROUP = _right("1111111110 1111111001 1111111111")
BASELINE = _right("1111100010 1111010000 1110110011")


def test_the_worked_example() -> None:
    found = compare_accuracies(GROUP, BASELINE)
    assert found.difference == pytest.approx(0.3)
    assert found.variance.total == pytest.approx(0.0109877, abs=1e-7)
    assert found.variance.freedom == pytest.approx(5.302, abs=1e-3)
    assert (found.low, found.high) == pytest.approx((0.0351, 0.5649), abs=1e-4)
    assert found.p == pytest.approx(0.03303, abs=1e-5)


def test_the_parts_of_the_variance_by_hand() -> None:
    """One image of four is wrong in every seed: everything is due to the images."""
    one_wrong = np.repeat(_right("0111"), 3, axis=0)
    found = compare_accuracies(one_wrong, np.ones((3, 4)))
    assert (found.variance.seeds, found.variance.both) == (0, 0)
    assert found.variance.images == pytest.approx(np.var([1, 0, 0, 0], ddof=1) / 4)


def test_seeds_that_differ_on_all_images_alike_are_a_part_of_their_own() -> None:
    good, bad = np.ones((1, 200)), np.tile([1, 1, 1, 1, 0], (1, 40))
    found = compare_accuracies(np.concatenate([good, bad, good, bad]), np.tile([1, 1, 1, 1, 0], (4, 40)))
    assert found.variance.seeds > found.variance.images
    assert found.p > 0.05


def test_a_reversed_comparison_is_its_mirror_image() -> None:
    a, b = _random(3, 0.9, 1), _random(4, 0.6, 2)
    forward, back = compare_accuracies(a, b), compare_accuracies(b, a)
    assert forward.p == pytest.approx(back.p)
    assert (forward.low, forward.high) == pytest.approx((-back.high, -back.low))


def test_the_order_of_seeds_does_not_matter() -> None:
    a, b = _random(3, 0.8, 1), _random(3, 0.7, 2)
    assert compare_accuracies(a[[2, 0, 1]], b).p == pytest.approx(compare_accuracies(a, b).p)


@pytest.mark.parametrize("seeds", [(2, 2), (3, 3), (2, 5)])
def test_many_comparisons_at_once_equal_single_ones(seeds: tuple[int, int]) -> None:
    a, b = (np.stack([_random(count, 0.8, seed + 10 * count) for seed in range(5)]) for count in seeds)
    together = compare_accuracies(a, b)
    for number in range(5):
        alone = compare_accuracies(a[number], b[number])
        assert (alone.low, alone.high, alone.p) == pytest.approx(
            (together.low[number], together.high[number], together.p[number])
        )
        assert alone.p_same(0.05) == pytest.approx(together.p_same(0.05)[number])
        assert alone.margin() == pytest.approx(together.margin()[number])


def test_fewer_than_six_differing_images_need_an_exact_test() -> None:
    """3 : 0 of 128 images in every seed: the t test alone would be nearly sure."""
    plain = np.zeros((3, 128))
    better = plain.copy()
    better[:, :3] = 1
    found = compare_accuracies(better, plain)
    assert found.p == pytest.approx(0.25)
    assert found.low < 0 < 3 / 128 < found.high


def test_two_perfect_rows_are_the_same_within_the_exact_bound_only() -> None:
    found = compare_accuracies(np.ones((3, 128)), np.ones((3, 128)))
    bound = 1 - 0.05 ** (1 / 128)
    assert (found.difference, found.p) == (0, 1)
    assert found.low == -found.high == pytest.approx(0.025 ** (1 / 128) - 1)
    assert found.margin() == pytest.approx(bound)
    assert found.p_same(bound) == pytest.approx(0.05)
    assert forecast(found, 0.95).detectable == 6 / 128, "never 0: six images must differ"


def test_a_difference_on_every_image_is_certain() -> None:
    found = compare_accuracies(np.ones((2, 20)), np.zeros((3, 20)))
    assert (found.difference, found.high) == (1, 1)
    assert found.p == pytest.approx(2 / 2**20)
    assert 0.5 < found.low < 1


def test_one_missing_class_and_forty_classes_are_images_like_others() -> None:
    """Right or wrong is all that counts: images of a class that one side never predicts are wrong in all its seeds."""
    labels = np.arange(120) % 40
    without = np.tile(labels != 7, (3, 1))
    found = compare_accuracies(without, np.ones((4, 120)))
    assert found.difference == pytest.approx(-3 / 120)
    assert found.p == pytest.approx(0.25)


def test_the_two_one_sided_tests_and_the_interval_agree() -> None:
    found = compare_accuracies(_random(5, 0.8, 1), _random(5, 0.8, 2))
    margin = found.margin(0.95)
    assert found.p_same(margin) == pytest.approx(0.05)
    assert found.p_same(1.01 * margin) < 0.05 < found.p_same(0.99 * margin)
    assert found.p_same(abs(found.difference) / 2) > 0.5


def test_the_numbers_of_a_single_comparison_are_floats() -> None:
    found = compare_accuracies(GROUP, BASELINE)
    numbers = [found.difference, found.low, found.high, found.p, *astuple(found.variance), found.margin()]
    assert all(isinstance(value, float) for value in numbers)


@pytest.mark.parametrize(
    ("group", "baseline", "message"),
    [
        ((3, 50), (3, 60), "50 and 60 test images cannot be paired"),
        ((3, 0), (3, 0), "0 images: must be two or more"),
        ((3, 1), (3, 1), "1 images: must be two or more"),
        ((1, 50), (3, 50), "1 seeds: must be two or more"),
    ],
)
def test_what_cannot_be_compared_is_refused(group: tuple[int, int], baseline: tuple[int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compare_accuracies(np.ones(group), np.ones(baseline))
