"""The verdicts of the tables in sentences."""

from collections import Counter
from collections.abc import Sequence

from beans_exp.report.columns.cells import points
from beans_exp.report.entries import Entry, Table
from beans_exp.report.statistics.comparison import BETTER, DIFFER, SAME, UNDECIDED, WORSE
from beans_exp.report.verdicts import source_in_words

TOLD = (BETTER, WORSE, SAME, DIFFER)
"""Verdicts that a summary of many comparisons shows."""
MANY = 8
"""Comparisons of a table above which the summary counts them."""


def summarise(tables: Sequence[Table]) -> list[tuple[str, list[str]]]:
    """Return title and verdicts of each of `tables` that compares; contrasts of families first."""
    ordered = sorted(tables, key=lambda table: not table.is_contrast)
    return [(table.title, lines) for table in ordered if (lines := _sentences(table))]


def _sentences(table: Table) -> list[str]:
    compared = [entry for entry in table.compared if entry.comparison]
    if len(compared) <= MANY:
        return [_sentence(entry) for entry in compared]
    counts = Counter(entry.verdict[0] for entry in compared)
    shown = [_sentence(entry) for entry in compared if entry.comparison and entry.comparison.verdict in TOLD][:MANY]
    parts = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
    return [f"{len(compared)} configurations against their baselines: {parts}.", *shown]


def _sentence(entry: Entry) -> str:
    found, baseline = entry.comparison, entry.baseline
    assert found and baseline
    verdict, caveat = entry.verdict
    start = f"{entry.title} against {baseline.title}: {verdict}, {points(found.difference)} points"
    if found.contrast is None:
        return f"{start} ({caveat})"
    span = f"95 % interval {points(found.contrast.low)} to {points(found.contrast.high)}"
    end = f" {source_in_words(found.contrast.variance).capitalize()}." if found.verdict == UNDECIDED else ""
    return f"{start} ({span}; {found.seeds[0]} and {found.seeds[1]} seeds).{end}"
