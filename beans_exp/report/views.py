"""A table of configurations from four sides, as text: results, learning, convergence and cost, classes."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from beans_exp.report.cells import NOTHING, Cell, decimals, mean_and_spread, p_value, percent, points
from beans_exp.report.convergence import Convergence, convergence
from beans_exp.report.groups import FinishedRun, Group
from beans_exp.report.predictions import Tested
from beans_exp.report.statistics import wilson
from beans_exp.report.tables import Entry, Table

OUTCOMES = {"oom": "out of memory", "running": "still running"}
"""How a `beans.status` is said, where it is no plain word."""


@dataclass(frozen=True)
class Scale:
    """What convergence is measured by: a validation accuracy, and the epochs of the report's longest run."""

    threshold: float
    horizon: int


@dataclass(frozen=True)
class Column:
    """A heading, what it means, and the cell of each line."""

    heading: str
    meaning: str
    cell: Callable[[Entry], Cell]


@dataclass(frozen=True)
class View:
    """A table to be printed: headings with what they mean, and rows whose first cell names them."""

    key: str
    title: str
    headings: list[tuple[str, str]]
    rows: list[list[Cell]]


def views(table: Table, scale: Scale) -> list[View]:
    """Return the table's views; all but the results only where there is something to see."""
    found = [_view(table, "results", "Results on the test images", _results(table))]
    if table.groups:
        found.append(_view(table, "learning", "Learning", LEARNING))
        found.append(_view(table, "cost", "Convergence and cost", [*_convergence(scale), *COST]))
    classes = next((group.tested[0].classes for group in table.groups if group.tested), ())
    if classes:
        found.append(_view(table, "classes", "Classes and calibration", [*CALIBRATION, *_by_class(classes)]))
    return found


def _view(table: Table, key: str, title: str, columns: Sequence[Column]) -> View:
    if not any(entry.row for entry in table.entries):
        columns = [column for column in columns if "reported" not in column.heading]
    headings = [("configuration", ""), *((column.heading, column.meaning) for column in columns)]
    rows = [[configuration(entry), *(column.cell(entry) for column in columns)] for entry in table.entries]
    return View(f"{table.key}_{key}", title, headings, rows)


def configuration(entry: Entry) -> Cell:
    """Return the cell that names a row: its title, what it has beside its row, and what is missing of it."""
    group = entry.group
    if group is None:
        return Cell(entry.title, "no run", "missing")
    lost = [f"{count} {OUTCOMES.get(status, status)}" for status, count in group.unfinished.items()]
    words = [*(["one seed"] if len(group.done) == 1 else []), *group.notes, *lost]
    return Cell(entry.title, "; ".join(words), "" if group.done else "missing")


def _of_group(cell: Callable[[Group], Cell]) -> Callable[[Entry], Cell]:
    return lambda entry: cell(entry.group) if entry.group and entry.group.done else Cell(NOTHING)


def _figure(figure: Callable[[FinishedRun], float], text: Callable[[float], str] = percent) -> Callable[[Entry], Cell]:
    return _of_group(lambda group: mean_and_spread(group.figures(figure), text))


def _metric(name: str, text: Callable[[float], str]) -> Callable[[Entry], Cell]:
    return _of_group(lambda group: mean_and_spread(group.metric(name), text))


def _reported(name: str) -> Callable[[Entry], Cell]:
    def cell(entry: Entry) -> Cell:
        if entry.row is not None and not entry.row.reported:
            return Cell("not finished")
        return Cell(percent(entry.row.reported.get(name, math.nan)) if entry.row else NOTHING)

    return cell


# results


def _results(table: Table) -> list[Column]:
    baselines = {id(entry.baseline) for entry in table.entries if entry.baseline}
    return [
        Column("seeds", "finished runs, one for each seed", _seeds),
        Column("reported", "test accuracy that the study printed, one seed", _reported("test/accuracy")),
        Column(
            "measured",
            "test accuracy, mean over seeds; sd: standard deviation over seeds",
            _figure(lambda run: run.test),
        ),
        Column(
            "recognised",
            "test images, mean over seeds, with a 95 % Wilson interval for the accuracy of one training",
            _of_group(_counted),
        ),
        Column(
            "difference",
            "points above the baseline, with a 95 % bootstrap interval over test images and seeds",
            lambda entry: _difference(entry, len(baselines) > 1),
        ),
        Column("p", "of the bootstrap, corrected by Holm within this table; below it: without correction", _p),
        Column(
            "McNemar p",
            "exact, for each pair of runs with one seed; images that this side alone : the baseline alone got right",
            _mcnemar,
        ),
        Column("verdict", "by the corrected p at 5 %", _verdict),
    ]


def _seeds(entry: Entry) -> Cell:
    count = len(entry.group.done) if entry.group else 0
    return Cell(str(count), "", "single" if count == 1 else "")


def _counted(group: Group) -> Cell:
    results = group.results
    if results is None:
        return Cell(NOTHING)
    counts, images = results.right.sum(axis=1), results.right.shape[1]
    low, high = wilson(float(counts.mean()), images)
    return Cell(f"{counts.mean():.4g} of {images}", f"Wilson {100 * low:.1f} to {percent(high)}")


def _difference(entry: Entry, several_baselines: bool) -> Cell:
    found = entry.comparison
    if found is None or entry.baseline is None:
        is_baseline = entry.group is not None and entry.group.done and not entry.why_not
        return Cell("baseline" if is_baseline else NOTHING)
    against = f"; against {entry.baseline.title}" if several_baselines else ""
    return Cell(points(found.difference), f"bootstrap {points(found.low)} to {points(found.high)}{against}")


def _p(entry: Entry) -> Cell:
    if entry.comparison is None:
        return Cell(NOTHING)
    return Cell(p_value(entry.comparison.p_holm), f"alone {p_value(entry.comparison.p)}")


def _mcnemar(entry: Entry) -> Cell:
    tests = entry.comparison.mcnemar if entry.comparison else []
    if not tests:
        return Cell(NOTHING, "no seed in common" if entry.comparison else "")
    if len(tests) == 1:
        (test,) = tests
        return Cell(p_value(test.p), f"{test.only_group} : {test.only_baseline}, seed {test.seed}")
    values = sorted(test.p for test in tests)
    return Cell(f"{p_value(values[0])} to {p_value(values[-1])}", f"{len(values)} seed pairs")


def _verdict(entry: Entry) -> Cell:
    verdict, rest = entry.verdict
    return Cell(verdict or NOTHING, rest, entry.comparison.verdict.split()[0] if entry.comparison else "")


# learning


def _reported_gap(entry: Entry) -> Cell:
    reported = entry.row.reported if entry.row else {}
    if "train/accuracy" not in reported:
        return Cell(NOTHING)
    return Cell(points(reported["train/accuracy"] - reported["val/accuracy"]))


LEARNING = [
    Column("train, reported", "accuracy in the last epoch", _reported("train/accuracy")),
    Column("train", "accuracy in the epoch that was tested, mean over seeds", _figure(lambda run: run.train)),
    Column("validation, reported", "accuracy in the last epoch", _reported("val/accuracy")),
    Column("validation", "accuracy in the epoch that was tested, mean over seeds", _figure(lambda run: run.validation)),
    Column("best validation", "accuracy in the best epoch of each seed", _metric("best/val_accuracy", percent)),
    Column("gap, reported", "train minus validation, points", _reported_gap),
    Column("gap", "train minus validation, points; a large one is overfitting", _metric("gap/accuracy", points)),
    Column("test cross-entropy", "nats an image, penalties left out", _metric("test/cross_entropy", decimals(3))),
]


# convergence and cost


def _convergence(scale: Scale) -> list[Column]:
    def cell(show: Callable[[Convergence], Cell]) -> Callable[[Entry], Cell]:
        def of_group(group: Group) -> Cell:
            found = convergence(group, scale.threshold, scale.horizon)
            return show(found) if found else Cell(NOTHING)

        return _of_group(of_group)

    level = f"{100 * scale.threshold:.3g} %"
    return [
        Column(
            f"epochs to {level}",
            f"first epoch with a validation accuracy of {level}, median over seeds; how many runs got there at all, "
            "and how many were there in their last epoch",
            cell(_epochs),
        ),
        Column(
            f"minutes to {level}",
            "training up to then, with what cached features cost, median over seeds",
            cell(lambda found: Cell(f"{found.seconds / 60:.1f}" if math.isfinite(found.seconds) else NOTHING)),
        ),
        Column(
            "mean validation",
            f"area under the validation curve over {scale.horizon} epochs, the last value held to there: a run that "
            "ends badly does not look fast",
            cell(lambda found: Cell(percent(found.area))),
        ),
    ]


def _epochs(found: Convergence) -> Cell:
    text = f"{found.epochs:.0f}" if math.isfinite(found.epochs) else "never"
    return Cell(text, f"{found.reached} of {found.runs} got there, {found.held} ended there")


COST = [
    Column(
        "training, minutes",
        "of all epochs, with what cached features cost",
        _figure(lambda run: run.training_seconds, decimals(1, 60)),
    ),
    Column("memory, GB", "peak of the training process, 10^9 bytes", _metric("memory/peak_rss_mb", decimals(2, 1e3))),
    Column("parameters, millions", "of the saved model", _metric("model/parameters", decimals(2, 1e6))),
    Column(
        "trained, millions",
        "parameters that the last stage trains",
        _metric("model/trainable_parameters", decimals(2, 1e6)),
    ),
    Column("multiply-adds, billions", "an image, forward", _metric("model/macs", decimals(3, 1e9))),
    Column("ms an image", "prediction, whole model, raw images", _metric("time/ms_per_image", decimals(1))),
]


# classes


def _of_tests(figure: Callable[[Tested], float]) -> Callable[[Entry], Cell]:
    return _of_group(lambda group: mean_and_spread(np.array([figure(one) for one in group.tested]), decimals(3)))


CALIBRATION = [
    Column(
        "calibration error",
        "expected calibration error, ten bins: 0 is best",
        _of_tests(lambda one: one.calibration.error),
    ),
    Column("Brier score", "squared distance of the probabilities, 0 best, 2 worst", _of_tests(lambda one: one.brier)),
]
THREE = "precision / recall / F1, mean over seeds"


def _by_class(classes: Sequence[str]) -> list[Column]:
    columns = [Column("macro mean", THREE, _of_class(None))]
    return columns + [Column(name.replace("_", " "), THREE, _of_class(index)) for index, name in enumerate(classes)]


def _of_class(index: int | None) -> Callable[[Entry], Cell]:
    return _of_group(lambda group: _three(group, index))


def _three(group: Group, index: int | None) -> Cell:
    """Precision, recall and F1 of one class, or their means over classes, of a group."""
    if not group.tested:
        return Cell(NOTHING)
    series = (np.array([tested.by_class[name] for tested in group.tested]) for name in ("precision", "recall", "f1"))
    means = ((values if index is None else values[:, index]).mean() for values in series)
    return Cell(" / ".join(f"{value:.3f}" for value in means))
