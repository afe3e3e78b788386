"""The report's tables: which rows stand in them, against what each is compared, and what comes out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from beans_exp.errors import ConfigError
from beans_exp.report.groups import DEFAULTS, Group
from beans_exp.report.statistics import Comparison, compare, holm, verdict_in_words
from beans_exp.report.study_rows import BESIDE, Row

REGULARIZERS = ("reg.l1", "reg.l2", "reg.dropout", "reg.augment", "reg.label_smoothing", "reg.aux_weight")


@dataclass(frozen=True)
class Plan:
    """A table of the study: its rows, and the one that the others are compared with."""

    key: str
    title: str
    question: str
    rows: tuple[str, ...]
    baseline: str


PLANS = (
    Plan(
        "regularization",
        "Regularization",
        "Does a regularizer make LeNet better, or narrow the gap between train and validation?",
        ("lenet", "lenet_l1", "lenet_l2", "lenet_dropout"),
        "lenet",
    ),
    Plan(
        "kernel_size",
        "Kernel size",
        "Kernels of 3, 5 or 7 in all three convolutions of LeNet? Dense 50 changes its size with them.",
        ("lenet_k3", "lenet", "lenet_k7"),
        "lenet",
    ),
    Plan(
        "kernel_count",
        "Kernel count",
        "Half or twice the filters of LeNet?",
        ("lenet_narrow", "lenet", "lenet_wide"),
        "lenet",
    ),
    Plan(
        "transfer",
        "Transfer and depth",
        "Do tuned blocks make the pre-trained Inception-v3 better than a new head on the frozen base?",
        ("inception_frozen", "inception_top2", "inception_top3", "inception_top6"),
        "inception_frozen",
    ),
)
"""The planned comparisons: each row against its table's baseline, not all pairs."""


@dataclass
class Entry:
    """A line of a table: a group of runs, or a row of the study of which there is none."""

    title: str
    group: Group | None
    row: Row | None = None
    baseline: Group | None = None
    comparison: Comparison | None = None
    why_not: str = ""
    """Why there is no comparison."""

    @property
    def verdict(self) -> tuple[str, str]:
        """What the comparison says, and what it leaves open; or that there is none, and why."""
        if self.comparison:
            return verdict_in_words(self.comparison)
        return ("not compared", self.why_not) if self.why_not else ("", "")


@dataclass
class Table:
    """Configurations side by side."""

    key: str
    title: str
    question: str
    entries: list[Entry]
    notes: list[str] = field(default_factory=list)

    @property
    def groups(self) -> list[Group]:
        """The groups that have a finished run."""
        return [entry.group for entry in self.entries if entry.group and entry.group.done]


def make_tables(groups: Sequence[Group], rows: dict[str, Row], baseline: str | None = None) -> list[Table]:
    """Return the study's tables, best LeNet against best Inception, and one of other configurations a data set.

    `baseline` is the title of a group, the name of a row of the study, or the beginning of a run's id; it takes the
    place of every table's own. Tables of the study are left out where fewer than two of their rows have runs. Raises
    ConfigError for a `baseline` that is none of these.
    """
    chosen = find_baseline(groups, baseline) if baseline else None
    tables = [_study_table(plan, groups, rows) for plan in PLANS]
    tables = [table for table in tables if len({entry.title for entry in table.entries if entry.group}) > 1]
    tables += _best_tables(groups, rows)
    tables += _other_tables(groups)
    for table in tables:
        _compare(table, chosen)
    return tables


def in_order(groups: Sequence[Group]) -> list[Group]:
    """Return the groups in the order of the study's tables, then those that are no row of it."""
    rows = list(dict.fromkeys(name for plan in PLANS for name in plan.rows))
    return sorted(groups, key=lambda group: rows.index(group.row) if group.row in rows else len(rows))


def find_baseline(groups: Sequence[Group], wanted: str) -> Group:
    """Return the group that `wanted` names: by its title, its row in the study, or the beginning of a run's id."""
    named = [group for group in groups if wanted in (group.title, group.row)]
    ids = [group for group in groups if len(wanted) >= 6 and any(run.run_id.startswith(wanted) for run in group.runs)]
    found = named or ids
    if not found:
        known = ", ".join(dict.fromkeys(group.row or group.title for group in groups if group.done))
        raise ConfigError(
            f"--baseline {wanted}: must be a configuration or a run of this report. Known: {known or 'none'}"
        )
    return max(found, key=lambda group: len(group.done))


def _study_table(plan: Plan, groups: Sequence[Group], rows: dict[str, Row]) -> Table:
    baselines = [group for group in groups if group.row == plan.baseline]
    entries = []
    for row in (rows[name] for name in plan.rows):
        found = [group for group in groups if group.row == row.name]
        entries += [_study_entry(group, row, plan, baselines) for group in found] or [Entry(row.title, None, row)]
    return Table(plan.key, plan.title, plan.question, entries)


def _study_entry(group: Group, row: Row, plan: Plan, baselines: Sequence[Group]) -> Entry:
    entry = Entry(group.title, group, row)
    if row.name != plan.baseline:
        entry.baseline = _like(group, baselines)
        if entry.baseline is None:
            entry.why_not = "no run of the baseline on the same data with the same weights and trainer"
    return entry


def _like(group: Group, candidates: Sequence[Group]) -> Group | None:
    """The candidate on the same data that has the same weights, trainer and precision."""
    for other in candidates:
        if other.data == group.data and _beside(other) == _beside(group):
            return other
    return None


def _beside(group: Group) -> dict[str, str]:
    return {key: value for key, value in group.values.items() if key.startswith(BESIDE)}


def _best_tables(groups: Sequence[Group], rows: dict[str, Row]) -> Iterator[Table]:
    """Best LeNet against best pre-trained Inception, chosen by validation, for each data set that has both."""
    places = list(dict.fromkeys(_data_key(group) for group in groups))
    for number, key in enumerate(places):
        here = [group for group in groups if _data_key(group) == key and np.isfinite(group.validation)]
        lenets = [group for group in here if group.values["model.name"] == "lenet"]
        inceptions = [group for group in here if _pretrained(group)]
        if not lenets or not inceptions:
            continue
        lenet, inception = (max(family, key=lambda group: group.validation) for family in (lenets, inceptions))
        entries = [
            Entry(group.title, group, rows.get(group.row or ""), baseline)
            for group, baseline in ((lenet, None), (inception, lenet))
        ]
        suffix = "" if len(places) == 1 else f" on {data_name(lenet)}"
        yield Table(
            f"best{number or ''}",
            f"LeNet against Inception{suffix}",
            "Does the best pre-trained network beat the best one trained from scratch?",
            entries,
            [
                f"The best by mean validation accuracy: {_chosen(lenet, len(lenets))}; "
                f"{_chosen(inception, len(inceptions))}. The test images played no part in the choice."
            ],
        )


def _pretrained(group: Group) -> bool:
    return group.values["model.name"] == "inception" and group.values["model.weights"] != "null"


def _chosen(group: Group, candidates: int) -> str:
    return f"{group.title} ({100 * group.validation:.1f} %), one of {candidates}"


def _other_tables(groups: Sequence[Group]) -> Iterator[Table]:
    """What is no row of the study, a table for each data set."""
    others = [group for group in groups if group.row is None]
    for number, data in enumerate(dict.fromkeys(group.data for group in others)):
        here = [group for group in others if group.data == data]
        default = _plainest([group for group in here if group.done] or here)
        here.sort(key=lambda group: (group is not default, -np.nan_to_num(group.validation)))
        entries = [Entry(group.title, group, None, _baseline_of(group, here, default)) for group in here]
        question = "Each against the same without regularizer, else against the plainest one, which stands first."
        yield Table(f"others{number or ''}", f"Other configurations on {data_name(default)}", question, entries)


def _baseline_of(group: Group, others: Sequence[Group], default: Group) -> Group | None:
    return None if group is default else _twin(group, others) or default


def _plainest(groups: Sequence[Group]) -> Group:
    """The group that is nearest to the defaults, without regularizer where there is one; of equals, the most seeds."""

    def place(group: Group) -> tuple[bool, int, int]:
        changes = sum(value != DEFAULTS.get(key) for key, value in group.values.items())
        return (_regularized(group), changes, -len(group.done))

    return min(groups, key=place)


def _regularized(group: Group) -> bool:
    return any(group.values[key] != DEFAULTS[key] for key in REGULARIZERS)


def _twin(group: Group, others: Sequence[Group]) -> Group | None:
    """The group that is the same but for its regularizer, of which it has none."""
    if not _regularized(group):
        return None
    plain = group.values | {key: DEFAULTS[key] for key in REGULARIZERS}
    return next((other for other in others if other.values == plain), None)


def _data_key(group: Group) -> tuple[object, ...]:
    return (group.data, *(value for key, value in group.values.items() if key.startswith("data.")))


def data_name(group: Group) -> str:
    """Return the data set of a group in words: its name, the beginning of its digest."""
    return (
        f"{group.data[0]} ({group.data[1][:8]})"
        if group.data
        else f"{group.values['data.name']} (content not recorded)"
    )


def _compare(table: Table, chosen: Group | None) -> None:
    """Fill in the comparisons of `table`, with `chosen` as their baseline where given, and correct their p."""
    for entry in table.entries:
        if entry.group is None:
            continue
        if chosen is not None:
            entry.baseline, entry.why_not = (None if entry.group is chosen else chosen), ""
        if entry.baseline is not None:
            entry.why_not = why_no_comparison(entry.group, entry.baseline)
            if not entry.why_not:
                assert entry.group.results and entry.baseline.results
                entry.comparison = compare(entry.group.results, entry.baseline.results)
    compared = [entry for entry in table.entries if entry.comparison]
    corrected = holm([entry.comparison.p for entry in compared if entry.comparison])
    for entry, value in zip(compared, corrected, strict=True):
        assert entry.comparison
        entry.comparison = replace(entry.comparison, p_holm=value)


def why_no_comparison(group: Group, baseline: Group) -> str:
    """Return why two groups cannot be compared image by image; nothing where they can."""
    for side in (group, baseline):
        if not side.done:
            return f"{side.title} has no finished run"
        if side.results is None:
            return f"{side.title} has no predictions of test images"
    if group.data != baseline.data:
        return f"tested on other data ({data_name(group)}) than {baseline.title} ({data_name(baseline)})"
    if group.labels_digest != baseline.labels_digest:
        return f"its test labels are not those of {baseline.title}, so images cannot be paired"
    return ""
