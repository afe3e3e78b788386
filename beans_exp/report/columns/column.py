"""A column, and the ways to make one: from a group, from each run, from a metric, from a printed figure."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from beans_exp.metrics import BY_NAME
from beans_exp.report.columns.cells import NOTHING, Cell, mean_and_spread, percent
from beans_exp.report.entries import Entry
from beans_exp.report.runs.groups import FinishedRun, Group


@dataclass(frozen=True)
class Column:
    """A heading, its meaning, and the cell of each line."""

    heading: str
    meaning: str
    cell: Callable[[Entry], Cell]
    reported: bool = False
    """Whether it shows printed figures, which only tables with rows of a study have."""


def of_group(cell: Callable[[Group], Cell]) -> Callable[[Entry], Cell]:
    """Return `cell` of the entry's group; nothing for an entry without a finished run."""
    return lambda entry: cell(entry.group) if entry.group and entry.group.done else Cell(NOTHING)


def of_runs(figure: Callable[[FinishedRun], float], text: Callable[[float], str] = percent) -> Callable[[Entry], Cell]:
    """Return the mean and spread of `figure` over the entry's runs."""
    return of_group(lambda group: mean_and_spread(group.figures(figure), text))


def of_metric(name: str, figure: Callable[[FinishedRun], float] | None = None, meaning: str = "") -> Column:
    """Return the column of a metric, in its own words unless `meaning` is given; `figure` replaces its value."""
    metric = BY_NAME[name]
    cell = of_runs(figure or (lambda run: run.metric(name)), metric.text)
    return Column(metric.heading, meaning or metric.meaning, cell)


def of_reported(name: str, heading: str, meaning: str) -> Column:
    """Return the column of a metric's printed figures."""

    def cell(entry: Entry) -> Cell:
        if entry.row is not None and not entry.row.reported:
            return Cell("not finished")
        return Cell(percent(entry.row.reported.get(name, math.nan)) if entry.row else NOTHING)

    return Column(heading, meaning, cell, reported=True)
