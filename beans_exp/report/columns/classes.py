"""Columns of calibration, and of precision, recall and F1 by class."""

from collections.abc import Callable, Sequence

import numpy as np

from beans_exp.report.columns.cells import NOTHING, Cell, decimals, mean_and_spread
from beans_exp.report.columns.column import Column, of_group
from beans_exp.report.entries import Entry
from beans_exp.report.runs.groups import Group
from beans_exp.report.runs.predictions import Tested

THREE = "precision / recall / F1, mean over seeds"
MACRO = "macro mean"


def calibration() -> list[Column]:
    """Return the columns of calibration."""
    return [
        Column(
            "calibration error",
            "expected calibration error, ten bins, mean over seeds; below it: mean and 95 % quantile of a perfectly "
            "calibrated model with the same confidences and as many images, which is not 0",
            of_group(_calibration_error),
        ),
        Column(
            "squared error",
            "squared calibration error without the part that chance adds: 0 is expected of a calibrated model",
            _of_tests(lambda one: one.calibration.squared_error, 4),
        ),
        Column(
            "Brier score",
            "squared error of the probabilities: 0 is best, 2 is worst",
            _of_tests(lambda one: one.brier),
        ),
    ]


def by_class(classes: Sequence[str]) -> list[Column]:
    """Return a column for the mean over classes, and one for each class."""
    columns = [Column(MACRO, THREE, _of_class(None))]
    return columns + [Column(name.replace("_", " "), THREE, _of_class(index)) for index, name in enumerate(classes)]


def _of_tests(figure: Callable[[Tested], float], digits: int = 3) -> Callable[[Entry], Cell]:
    return of_group(lambda group: mean_and_spread(np.array([figure(one) for one in group.tested]), decimals(digits)))


def _calibration_error(group: Group) -> Cell:
    found = [one.calibration for one in group.tested]
    if not found:
        return Cell(NOTHING)
    perfect, high = (np.mean([getattr(one, name) for one in found]) for name in ("perfect_mean", "perfect_high"))
    beside = f"perfect {perfect:.3f}, 95 % below {high:.3f}"
    return mean_and_spread(np.array([one.error for one in found]), decimals(3), beside)


def _of_class(index: int | None) -> Callable[[Entry], Cell]:
    return of_group(lambda group: _three(group, index))


def _three(group: Group, index: int | None) -> Cell:
    """Return precision, recall and F1 of one class, or their means over classes."""
    if not group.tested:
        return Cell(NOTHING)
    series = (np.array([tested.by_class[name] for tested in group.tested]) for name in ("precision", "recall", "f1"))
    means = ((values if index is None else values[:, index]).mean() for values in series)
    return Cell(" / ".join(f"{value:.3f}" for value in means))
