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
            "expected calibration error, ten bins: 0 is best",
            _of_tests(lambda one: one.calibration.error),
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


def _of_tests(figure: Callable[[Tested], float]) -> Callable[[Entry], Cell]:
    return of_group(lambda group: mean_and_spread(np.array([figure(one) for one in group.tested]), decimals(3)))


def _of_class(index: int | None) -> Callable[[Entry], Cell]:
    return of_group(lambda group: _three(group, index))


def _three(group: Group, index: int | None) -> Cell:
    """Return precision, recall and F1 of one class, or their means over classes."""
    if not group.tested:
        return Cell(NOTHING)
    series = (np.array([tested.by_class[name] for tested in group.tested]) for name in ("precision", "recall", "f1"))
    means = ((values if index is None else values[:, index]).mean() for values in series)
    return Cell(" / ".join(f"{value:.3f}" for value in means))
