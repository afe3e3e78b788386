"""A table of configurations from several sides, as text: results, learning, cost, classes."""

from collections.abc import Sequence
from dataclasses import dataclass

from beans_exp.report.columns.cells import Cell
from beans_exp.report.columns.classes import by_class, calibration
from beans_exp.report.columns.column import Column
from beans_exp.report.columns.cost import cost
from beans_exp.report.columns.learning import learning
from beans_exp.report.columns.results import accuracies, comparisons
from beans_exp.report.entries import Entry, Table
from beans_exp.report.runs.convergence import Scale

OUTCOMES = {"oom": "out of memory", "running": "still running"}
"""`beans.status` in words, for those that are no plain word."""


@dataclass(frozen=True)
class View:
    """A table to be printed: headings with their meanings, and rows whose first cell names them."""

    key: str
    title: str
    headings: list[tuple[str, str]]
    rows: list[list[Cell]]


def views(table: Table, scale: Scale) -> list[View]:
    """Return the table's views; all but the results only if they have something to show."""
    results = accuracies() if table.pairs else [*accuracies(), *comparisons(table)]
    found = [_view(table, "results", "Results on the test images", results)]
    if table.pairs:
        found.append(_pairs(table))
    if table.groups:
        found.append(_view(table, "learning", "Learning", learning(table)))
        found.append(_view(table, "cost", "Convergence and cost", cost(scale)))
    classes = next((group.tested[0].classes for group in table.groups if group.tested), ())
    if classes:
        found.append(_view(table, "classes", "Classes and calibration", [*calibration(), *by_class(classes)]))
    return found


def _view(table: Table, key: str, title: str, columns: Sequence[Column]) -> View:
    if not any(entry.row for entry in table.entries):
        columns = [column for column in columns if not column.reported]
    rows = [[configuration(entry), *(column.cell(entry) for column in columns)] for entry in table.entries]
    return View(f"{table.key}_{key}", title, _headings("configuration", columns), rows)


def _pairs(table: Table) -> View:
    columns = comparisons(table)
    rows = [[_pair(entry), *(column.cell(entry) for column in columns)] for entry in table.pairs]
    return View(f"{table.key}_pairs", "All pairs", _headings("configurations", columns), rows)


def _headings(first: str, columns: Sequence[Column]) -> list[tuple[str, str]]:
    return [(first, ""), *((column.heading, column.meaning) for column in columns)]


def _pair(entry: Entry) -> Cell:
    return Cell(entry.title, f"against {entry.baseline.title}" if entry.baseline else "")


def configuration(entry: Entry) -> Cell:
    """Return the cell that names a row: its title, differences from its row, and unfinished runs."""
    group = entry.group
    if group is None:
        return Cell(entry.title, "no run", "missing")
    lost = [f"{count} {OUTCOMES.get(status, status)}" for status, count in group.unfinished.items()]
    words = [*(["one seed"] if len(group.done) == 1 else []), *entry.notes, *lost]
    return Cell(entry.title, "; ".join(words), "" if group.done else "missing")
