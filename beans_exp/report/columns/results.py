"""Columns of test results: accuracies, and comparisons with a baseline."""

from beans_exp.report.columns.cells import NOTHING, Cell, p_value, percent, points
from beans_exp.report.columns.column import Column, of_group, of_reported, of_runs
from beans_exp.report.entries import Entry, Table
from beans_exp.report.runs.groups import Group
from beans_exp.report.statistics import wilson


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
            "test images, mean over seeds, with a 95 % Wilson interval for the accuracy of one run",
            of_group(_counted),
        ),
    ]


def comparisons(table: Table) -> list[Column]:
    """Return the columns of comparisons; a difference names its baseline if the table has several."""
    several = len({id(entry.baseline) for entry in table.entries if entry.baseline}) > 1 and not table.pairs
    return [
        Column(
            "difference",
            "points above the baseline, with a 95 % bootstrap interval over test images and seeds",
            lambda entry: _difference(entry, several),
        ),
        Column("p", "of the bootstrap, with Holm's correction within this table; below it: uncorrected", _p),
        Column(
            "McNemar p",
            "exact, for each pair of runs with the same seed; images that only this side : only the baseline got right",
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
        return Cell("baseline" if entry.is_done and not entry.why_not else NOTHING)
    against = f"; against {entry.baseline.title}" if several_baselines else ""
    return Cell(points(found.difference), f"bootstrap {points(found.low)} to {points(found.high)}{against}")


def _p(entry: Entry) -> Cell:
    if entry.comparison is None:
        return Cell(NOTHING)
    return Cell(p_value(entry.comparison.p_holm), f"raw {p_value(entry.comparison.p)}")


def _mcnemar(entry: Entry) -> Cell:
    tests = entry.comparison.mcnemar if entry.comparison else []
    if not tests:
        return Cell(NOTHING, "no common seed" if entry.comparison else "")
    if len(tests) == 1:
        (test,) = tests
        return Cell(p_value(test.p), f"{test.only_group} : {test.only_baseline}, seed {test.seed}")
    values = sorted(test.p for test in tests)
    return Cell(f"{p_value(values[0])} to {p_value(values[-1])}", f"{len(values)} seed pairs")


def _verdict(entry: Entry) -> Cell:
    verdict, rest = entry.verdict
    return Cell(verdict or NOTHING, rest, entry.comparison.verdict.split()[0] if entry.comparison else "")
