"""The tables of a report: those of the studies, the best of two families, and all other configurations."""

from collections.abc import Iterator, Sequence

import numpy as np

from beans_exp.errors import ConfigError
from beans_exp.report.comparisons import compare_freely, compare_with, correct, fill_in, is_twin
from beans_exp.report.entries import Entry, Table
from beans_exp.report.runs.groups import Group, data_key, data_name
from beans_exp.report.statistics.comparison import MARGIN
from beans_exp.report.studies.study import Contrast, Family, PlannedTable, Study


def make_tables(
    groups: Sequence[Group], studies: Sequence[Study], baseline: str | None = None, margin: float = MARGIN
) -> list[Table]:
    """Return the studies' tables and contrasts, then a table of other configurations for each data set.

    A study's table is left out if fewer than two of its rows have runs. `baseline` is the title of a configuration,
    the name of a row, or the beginning of a run's id; it replaces every table's own. Two configurations count as the
    same within `margin`. Raises ConfigError for a `baseline` that is none of these.
    """
    chosen = find_baseline(groups, baseline) if baseline else None
    tables = [_planned(plan, study, groups) for study in studies for plan in study.tables]
    tables = [table for table in tables if _rows_with_runs(table) > 1]
    tables += [table for study in studies for contrast in study.contrasts for table in _best(contrast, groups)]
    tables += _others(groups)
    for table in tables:
        if chosen is not None:
            compare_with(table, chosen)
        fill_in(table, margin)
    correct(tables)
    return tables


def _rows_with_runs(table: Table) -> int:
    return len({entry.row.name for entry in table.entries if entry.group and entry.row})


def find_baseline(groups: Sequence[Group], wanted: str) -> Group:
    """Return the group that `wanted` names: by its title, its row in a study, or the beginning of a run's id."""
    named = [group for group in groups if wanted in _names(group)]
    ids = [group for group in groups if len(wanted) >= 6 and any(run.run_id.startswith(wanted) for run in group.runs)]
    found = named or ids
    if not found:
        known = ", ".join(dict.fromkeys(group.row or group.title for group in groups if group.done))
        raise ConfigError(f"--baseline={wanted}: must be a configuration or a run's id. Known: {known or 'none'}")
    return max(found, key=lambda group: len(group.done))


def _names(group: Group) -> list[str]:
    return [group.title, *(name for match in group.matches for name in (match.row.name, match.row.title))]


def in_order(groups: Sequence[Group], studies: Sequence[Study]) -> list[Group]:
    """Return the groups in the order of the studies' tables, then those that are no row."""
    rows = list(dict.fromkeys(name for study in studies for name in study.order))
    return sorted(groups, key=lambda group: rows.index(group.row) if group.row in rows else len(rows))


def _planned(plan: PlannedTable, study: Study, groups: Sequence[Group]) -> Table:
    entries = []
    for row in (study.rows[name] for name in plan.rows):
        found = [(group, match) for group in groups if (match := group.match([row.name]))]
        entries += [Entry(row.title, group, row, match.notes) for group, match in found] or [
            Entry(row.title, None, row)
        ]
    table = Table(plan.key, plan.title, plan.question, entries)
    if plan.baseline is None:
        compare_freely(table)
    else:
        _compare_with_row(table, plan.baseline)
    return table


def _compare_with_row(table: Table, baseline: str) -> None:
    """Compare each entry with the entry of the row `baseline` that differs from its row in the same values."""
    baselines = [entry for entry in table.entries if entry.row and entry.row.name == baseline and entry.group]
    for entry in table.entries:
        if entry.group and entry.row and entry.row.name != baseline:
            entry.baseline = next((other for other in baselines if _is_like(entry, other)), None)
            if entry.baseline is None:
                entry.why_not = "no run of the baseline on the same data with the same weights and trainer"


def _is_like(entry: Entry, other: Entry) -> bool:
    assert entry.group and entry.row and other.group and other.row
    if entry.group.data != other.group.data:
        return False
    return entry.row.differences(entry.group.values) == other.row.differences(other.group.values)


def _best(contrast: Contrast, groups: Sequence[Group]) -> Iterator[Table]:
    """Yield the best of both families, chosen by validation, for each data set that has both."""
    places = list(dict.fromkeys(data_key(group) for group in groups))
    for number, key in enumerate(places):
        here = [group for group in groups if data_key(group) == key]
        chosen = [best for family in contrast.families if (best := _best_of(family, here))]
        if len(chosen) < 2 or chosen[0][0] is chosen[1][0]:
            continue
        (baseline, baselines), (other, others) = chosen
        suffix = "" if len(places) == 1 else f" on {data_name(baseline)}"
        first = _entry(baseline)
        entries = [first, _entry(other)]
        entries[1].baseline = first
        note = (
            f"Chosen by mean validation accuracy: {_chosen(baseline, baselines)}; {_chosen(other, others)}. "
            "The test images played no part in the choice."
        )
        title = f"{contrast.title}{suffix}"
        yield Table(f"{contrast.key}{number or ''}", title, contrast.question, entries, [note], is_contrast=True)


def _best_of(family: Family, groups: Sequence[Group]) -> tuple[Group, int] | None:
    """Return the best configuration of a family by validation accuracy, with the family's size."""
    found = [group for group in groups if family.has(group.values) and np.isfinite(group.validation)]
    return (max(found, key=lambda group: group.validation), len(found)) if found else None


def _entry(group: Group) -> Entry:
    return Entry(group.title, group, group.matches[0].row if group.matches else None, group.notes)


def _chosen(group: Group, candidates: int) -> str:
    return f"{group.title} ({100 * group.validation:.1f} %), the best of {candidates}"


def _others(groups: Sequence[Group]) -> Iterator[Table]:
    """Yield the configurations that are no row of a study, a table for each data set."""
    others = [group for group in groups if not group.matches]
    for number, data in enumerate(dict.fromkeys(group.data for group in others)):
        here = [group for group in others if group.data == data]
        twins = [group for group in groups if group.matches and any(is_twin(group, other) for other in here)]
        found = sorted([*twins, *here], key=lambda group: -np.nan_to_num(group.validation))
        entries = [Entry(group.title, group) for group in found]
        table = Table(f"others{number or ''}", f"Other configurations on {data_name(here[0])}", "", entries)
        compare_freely(table)
        yield table
