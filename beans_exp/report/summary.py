"""The verdicts of the tables in sentences."""

from collections import Counter
from collections.abc import Sequence

from beans_exp.report.columns.cells import points
from beans_exp.report.entries import Entry, Table

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
    shown = [_sentence(entry) for entry in compared if entry.verdict[0] in ("better", "worse")][:MANY]
    parts = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
    return [f"{len(compared)} configurations against their baselines: {parts}.", *shown]


def _sentence(entry: Entry) -> str:
    found, baseline = entry.comparison, entry.baseline
    assert found and baseline
    seeds = f"{found.seeds[0]} and {found.seeds[1]} seeds" if max(found.seeds) > 1 else "one seed each"
    span = f"{points(found.difference)} points (95 % bootstrap {points(found.low)} to {points(found.high)}; {seeds})"
    return f"{entry.title} against {baseline.title}: {entry.verdict[0]}, {span}."
