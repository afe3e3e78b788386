"""Columns of test results: accuracies, and comparisons with a baseline."""

from collections.abc import Callable

import numpy as np

from beans_exp.report.columns.cells import NOTHING, Cell, p_value, percent, points
from beans_exp.report.columns.column import Column, of_group, of_reported, of_runs
from beans_exp.report.entries import Entry, Table
from beans_exp.report.runs.groups import Group
from beans_exp.report.statistics.comparison import Comparison
from beans_exp.report.statistics.exact import wilson
from beans_exp.report.statistics.means import interval_of_mean, interval_of_next
from beans_exp.report.verdicts import shares, source_in_words


def accuracies() -> list[Column]:
    """Return the columns of test accuracies."""
    return [
        Column("seeds", "finished runs, one for each seed", _seeds),
        of_reported("test/accuracy", "reported", "test accuracy that the study printed, one seed"),
        Column(
            "measured",
            "test accuracy, mean over seeds; sd: standard deviation over seeds",
            of_runs(lambda run: run.test),
        ),
        Column(
            "correct",
            "test images, mean over seeds; with one seed, a 95 % Wilson interval for this training on new images",
            of_group(_counted),
        ),
        Column(
            "new images and seeds",
            "95 % interval of the mean accuracy over new test images and new seeds",
            of_group(lambda group: _interval(group, interval_of_mean)),
        ),
        Column(
            "one more training",
            "95 % prediction interval of the accuracy of one more seed on the same test images",
            of_group(lambda group: _interval(group, interval_of_next)),
        ),
    ]


def comparisons(table: Table) -> list[Column]:
    """Return the columns of comparisons; a difference names its baseline if the table has several."""
    several = len({id(entry.baseline) for entry in table.entries if entry.baseline}) > 1 and not table.pairs
    return [
        Column(
            "difference",
            "points above the baseline, with a 95 % t interval over new test images and new seeds; with one seed none",
            lambda entry: _difference(entry, several),
        ),
        Column(
            "p",
            "of the analysis of seeds and images, or with one seed McNemar's, with Holm's correction for all "
            "comparisons of the page; below it: uncorrected",
            _p,
        ),
        Column(
            "McNemar p",
            "exact, for each pair of runs with the same seed; images that only this side : only the baseline got right",
            _mcnemar,
        ),
        Column("verdict", "by the corrected p at 5 %; with one seed about two trainings only", _verdict),
        Column(
            "uncertainty",
            "shares of the difference's variance: images, seeds, and their interaction, which both reduce",
            _uncertainty,
        ),
    ]


def _seeds(entry: Entry) -> Cell:
    count = len(entry.group.done) if entry.group else 0
    return Cell(str(count), "", "single" if count == 1 else "")


def _counted(group: Group) -> Cell:
    results = group.results
    if results is None:
        return Cell(NOTHING)
    counts, images = results.right.sum(axis=1), results.right.shape[1]
    runs = "" if len(counts) == len(group.done) else f"{len(counts)} of {len(group.done)} runs have predictions"
    words = [runs] if runs else []
    if len(counts) == 1:
        low, high = wilson(float(counts[0]), images)
        words.append(f"Wilson, this training on new images: {100 * low:.1f} to {percent(high)}")
    return Cell(f"{counts.mean():.4g} of {images}", "; ".join(words))


def _interval(group: Group, interval: Callable[[np.ndarray], tuple[float, float]]) -> Cell:
    """Return an interval over seeds; nothing for one seed, or where nothing varies."""
    right = group.results.right if group.results else np.zeros((0, 0))
    if min(right.shape) < 2:
        return Cell(NOTHING)
    low, high = interval(right)
    return Cell(f"{100 * low:.1f} to {percent(high)}" if high > low else NOTHING)


def _difference(entry: Entry, several_baselines: bool) -> Cell:
    found = entry.comparison
    if found is None or entry.baseline is None:
        return Cell("baseline" if entry.is_done and not entry.why_not else NOTHING)
    against = f"; against {entry.baseline.title}" if several_baselines else ""
    used = _fewer_runs(entry, found)
    if found.contrast is None:
        return Cell(points(found.difference), f"one seed: no interval{used}{against}")
    return Cell(
        points(found.difference), f"t {points(found.contrast.low)} to {points(found.contrast.high)}{used}{against}"
    )


def _fewer_runs(entry: Entry, found: Comparison) -> str:
    """Return on how many runs a difference rests, where those are not all that the mean accuracies rest on."""
    assert entry.group and entry.baseline and entry.baseline.group
    done = len(entry.group.done), len(entry.baseline.group.done)
    if found.seeds == done:
        return ""
    return f"; on {found.seeds[0]} of {done[0]} and {found.seeds[1]} of {done[1]} runs, those with predictions"


def _p(entry: Entry) -> Cell:
    if entry.comparison is None:
        return Cell(NOTHING)
    return Cell(p_value(entry.comparison.p_holm), f"raw {p_value(entry.comparison.p)}")


def _mcnemar(entry: Entry) -> Cell:
    tests = entry.comparison.mcnemar if entry.comparison else []
    if not tests:
        return Cell(NOTHING)
    if len(tests) == 1:
        (test,) = tests
        pair = f"seed {test.seed}" if test.seed == test.seed_baseline else f"seeds {test.seed}, {test.seed_baseline}"
        return Cell(p_value(test.p), f"{test.only_group} : {test.only_baseline}, {pair}")
    values = sorted(test.p for test in tests)
    return Cell(f"{p_value(values[0])} to {p_value(values[-1])}", f"{len(values)} seed pairs")


def _verdict(entry: Entry) -> Cell:
    verdict, rest = entry.verdict
    return Cell(verdict or NOTHING, rest, entry.comparison.verdict.split()[0] if entry.comparison else "")


def _uncertainty(entry: Entry) -> Cell:
    found = entry.comparison.contrast if entry.comparison else None
    parts = shares(found.variance) if found else None
    if found is None or parts is None:
        return Cell(NOTHING)
    images, seeds, both = (f"{100 * part:.0f} %" for part in parts)
    return Cell(f"images {images}, seeds {seeds}, both {both}", source_in_words(found.variance), bar=parts)
