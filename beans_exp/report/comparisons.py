"""The choice of comparisons (unregularized twins, all pairs, the best, or a given baseline), and their results."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any, TypeAlias

import numpy as np

from beans_exp.report.deciding import DEFAULTS
from beans_exp.report.entries import Entry, Table
from beans_exp.report.runs.groups import GAP, Group, data_name
from beans_exp.report.statistics.comparison import MARGIN, compare
from beans_exp.report.statistics.exact import holm
from beans_exp.report.statistics.gap import compare_gaps

REGULARIZERS = tuple(key for key in DEFAULTS if key.startswith("reg."))
ALL_PAIRS = 4
"""Configurations up to which all pairs are compared if none has an unregularized twin."""


def compare_freely(table: Table) -> None:
    """Choose the baselines of a table for which the study planned none, and set its rule."""
    done = [entry for entry in table.entries if entry.is_done]
    twins = {id(entry): twin for entry in done if (twin := _twin(entry, done))}
    if len(done) < 2:
        table.rule = "Nothing is compared: fewer than two configurations have a finished run."
    elif twins:
        _set_baseline(table, _most_used(list(twins.values())), twins)
        table.rule = "Each row is compared with its unregularized twin, or else with the baseline in the first row."
    elif len(done) <= ALL_PAIRS:
        table.pairs = [
            Entry(one.title, one.group, one.row, one.notes, baseline=other) for one, other in combinations(done, 2)
        ]
        table.rule = "No row has an unregularized twin, so all pairs are compared."
    else:
        _set_baseline(table, max(done, key=lambda entry: np.nan_to_num(entry.validation)), {})
        table.rule = (
            f"No row has an unregularized twin, and {len(done)} are too many for all pairs: each is compared with the "
            "best by validation accuracy, in the first row."
        )


def _set_baseline(table: Table, first: Entry, twins: dict[int, Entry]) -> None:
    """Put `first` on top, and compare the other entries with their twins or with it."""
    table.entries = [first, *(entry for entry in table.entries if entry is not first)]
    for entry in table.entries[1:]:
        entry.baseline = twins.get(id(entry), first)


def _most_used(twins: Sequence[Entry]) -> Entry:
    """Return the twin of most rows; of equals, the best by validation."""
    uses = Counter(id(twin) for twin in twins)
    return max(twins, key=lambda twin: (uses[id(twin)], np.nan_to_num(twin.validation)))


def _twin(entry: Entry, others: Sequence[Entry]) -> Entry | None:
    assert entry.group
    return next((other for other in others if other.group and is_twin(other.group, entry.group)), None)


def is_twin(plain: Group, group: Group) -> bool:
    """Whether `plain` is `group` without its regularizer, on the same data."""
    unregularized = group.values | {key: DEFAULTS[key] for key in REGULARIZERS}
    return plain.data == group.data and plain.values == unregularized != group.values


def compare_with(table: Table, chosen: Group) -> None:
    """Compare every row with the group `chosen`, in place of the table's own baseline."""
    table.pairs = []
    table.rule = f"Each row is compared with {chosen.title}, set by --baseline."
    baseline = next((entry for entry in table.entries if entry.group is chosen), Entry(chosen.title, chosen))
    for entry in table.entries:
        entry.why_not = ""
        entry.baseline = baseline if entry.group and entry.group is not chosen else None


def fill_in(table: Table, margin: float = MARGIN) -> None:
    """Compare the entries and pairs that have a baseline; `correct` completes the comparisons."""
    for entry in table.compared:
        assert entry.baseline
        entry.why_not = why_no_comparison(entry, entry.baseline)
        if not entry.why_not:
            assert entry.group and entry.group.results and entry.baseline.group and entry.baseline.group.results
            entry.comparison = compare(entry.group.results, entry.baseline.group.results, margin)
        if entry.group and entry.baseline.group and entry.group.data == entry.baseline.group.data:
            entry.gap = compare_gaps(entry.group.metric(GAP), entry.baseline.group.metric(GAP))


def correct(tables: Sequence[Table]) -> None:
    """Correct the p of all comparisons of `tables` together by Holm, and apart from them those of the gaps."""
    entries = [entry for table in tables for entry in table.compared]
    compared = {_sides(entry): entry.comparison for entry in entries if entry.comparison}
    corrected = _corrected({sides: found.p for sides, found in compared.items()})
    same = _corrected({sides: found.p_same for sides, found in compared.items()})
    gaps = _corrected({_sides(entry): entry.gap.p for entry in entries if entry.gap})
    for entry in entries:
        sides = _sides(entry)
        if entry.comparison:
            values: dict[str, Any] = {"p_holm": corrected[sides], "p_same_holm": same[sides], "family": len(compared)}
            entry.comparison = replace(entry.comparison, **values)
        if entry.gap:
            entry.gap = replace(entry.gap, p_holm=gaps[sides])


Sides: TypeAlias = frozenset[int]
"""Identifies a comparison, whichever side is the baseline: a page may show it in several tables."""


def _sides(entry: Entry) -> Sides:
    assert entry.baseline
    return frozenset((id(entry.group), id(entry.baseline.group)))


def _corrected(values: Mapping[Sides, float]) -> dict[Sides, float]:
    return dict(zip(values, holm([*values.values()]), strict=True))


def why_no_comparison(entry: Entry, baseline: Entry) -> str:
    """Return why two entries cannot be compared image by image; empty if they can."""
    for side in (entry, baseline):
        if not side.is_done:
            return f"{side.title} has no finished run"
        if side.group is None or side.group.results is None:
            return f"{side.title} has no predictions of test images"
    assert entry.group and baseline.group
    if entry.group.data != baseline.group.data:
        names = f"({data_name(entry.group)}) than {baseline.title} ({data_name(baseline.group)})"
        return f"tested on other data {names}"
    if entry.group.labels_digest != baseline.group.labels_digest:
        return f"its test labels differ from those of {baseline.title}, so images cannot be paired"
    return ""
