"""The simulation that judges the report's statistics: it draws what it says, and counts what it says."""

import sys
from dataclasses import replace

import numpy as np
import pytest

from beans_exp.report.statistics.exact import holm
from beans_exp.schema import Config
from beans_exp.tracking.store import open_store
from benchmarks import calibration
from benchmarks.calibration import (
    Cell,
    analysis,
    coverage,
    false_verdicts,
    family_wise,
    power,
    split_verdicts,
    truth_of_forecasts,
)
from tests.report.simulated import Point, Writer

pytestmark = pytest.mark.xdist_group("report")

CELL = Cell(accuracy=0.8, seed_points=2, image_sd=2, interaction_sd=1, seeds=3, images=40)


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize("classes", [None, 2, 40])
def test_configurations_have_the_accuracies_and_the_seed_variance_of_their_cell(
    classes: int | None, random: np.random.Generator
) -> None:
    cell = replace(CELL, classes=classes, seeds=4, images=400)
    better, plain, truth = cell.draw_with_truth(0.05, 300, random)
    assert plain.mean() == pytest.approx(0.8, abs=0.01)
    assert better.mean() == pytest.approx(0.85, abs=0.01)
    assert truth.mean() == pytest.approx(0.05, abs=0.005)
    assert truth.std(ddof=1) == pytest.approx(0.02 * np.sqrt(2 / 4), rel=0.15)


def test_equal_configurations_seldom_get_a_verdict_and_different_ones_do(random: np.random.Generator) -> None:
    assert false_verdicts(CELL, analysis, 300, random) < 0.08
    assert family_wise(CELL, analysis, 100, random) < 0.1
    assert power(replace(CELL, accuracy=0.5), 0.45, analysis, 100, random, others=2) > 0.9


def test_the_power_after_holm_is_that_of_holm(random: np.random.Generator) -> None:
    """With p given directly, the first of three is found as often as its corrected p is below 5 %."""
    values = random.random((3, 500)) ** 6
    queue = iter(values)
    found = power(CELL, 0.1, lambda group, baseline: next(queue), 500, random, others=2)
    assert found == np.mean([holm(list(one))[0] < 0.05 for one in values.T])


def test_intervals_cover_and_forecasts_are_tried(random: np.random.Generator) -> None:
    found = coverage(CELL, 0.05, 300, random)
    assert min(found.new_seeds, found.same_seeds, found.mean) > 0.9
    least, most = truth_of_forecasts(replace(CELL, image_sd=1, interaction_sd=0.3), 0.15, 40, random)
    assert 0.3 < least <= most <= 1


def test_halves_of_equally_good_trainings_are_seldom_different(random: np.random.Generator) -> None:
    (right,) = replace(CELL, seeds=12).draw([0], 1, random)
    assert split_verdicts(right[0], 3, 200, random) < 0.1
    assert split_verdicts(np.tile(right[0, :1], (6, 1)), 3, 50, random) == 0


def test_halves_are_of_different_trainings(random: np.random.Generator) -> None:
    """Two trainings of four are perfect, the others wrong on every image: one split in three separates them."""
    right = np.repeat([[True], [True], [False], [False]], 40, axis=1)
    assert split_verdicts(right, 2, 600, random) == pytest.approx(1 / 3, abs=0.06)


def test_the_program_prints_a_row_for_each_cell_and_each_split(
    store: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--seeds", "3", "--accuracies", "0.85", "--seed-points", "1", "--images", "20", "--replicates", "20"]
    monkeypatch.setattr(sys, "argv", ["calibration.py", *words])
    calibration.main()
    head, _, *rows = capsys.readouterr().out.splitlines()
    assert head.startswith("| accuracy | seed SD, points | image, interaction SD | seeds | false verdicts |")
    assert [row.count("|") for row in rows] == [head.count("|")] * 3
    writer = Writer(store, open_store(store, "many"))
    for seed in range(4):
        writer.write(Point(Config(seed=seed), 0.7, 1))
    words = ["--experiment", "many", "--tracking-uri", store, "--seeds", "2", "3", "--splits", "20"]
    monkeypatch.setattr(sys, "argv", ["calibration.py", *words])
    calibration.main()
    (row,) = capsys.readouterr().out.splitlines()[2:]
    assert row.startswith("| LeNet | 4 | 2 : 2 | ")
