"""Titles of configurations: those of their rows in a study, or else the values that set them apart."""

from collections import Counter
from collections.abc import Mapping, Sequence

from beans_exp.report.deciding import DEFAULTS
from beans_exp.report.runs.groups import Group, Match
from beans_exp.report.studies.rows import IMAGENET
from beans_exp.report.studies.study import Study
from beans_exp.schema.shipped import bases

SOURCE = "model.source"


def assign_rows(groups: Sequence[Group], studies: Sequence[Study]) -> None:
    """Set the `matches` and the `title` of each group; one without a row is named by its unusual values."""
    common = shared(groups)
    for group in groups:
        group.matches = [match for study in studies for match in _match(group, study, common)]
        group.title = group.matches[0].row.title if group.matches else _title(group.values, common)
    _tell_apart(groups)


def _tell_apart(groups: Sequence[Group]) -> None:
    """Add the code's digest to the titles of configurations that differ in nothing else."""
    counts = Counter(group.title for group in groups)
    for group in groups:
        if counts[group.title] > 1 and group.values[SOURCE] != "null":
            group.title = f"{group.title} {SOURCE}={group.values[SOURCE][:6]}"


def _match(group: Group, study: Study, common: Mapping[str, str]) -> list[Match]:
    """Return the group's row in `study`, if any, with its differences from the row, unless all groups share them."""
    apart = {key: value for key, value in group.values.items() if key not in common}
    row = next((row for row in study.rows.values() if row.counts(group.values)), None)
    if row is None:
        return []
    return [Match(row, [f"{key.removeprefix('model.')}={value}" for key, value in row.differences(apart).items()])]


def shared(groups: Sequence[Group]) -> dict[str, str]:
    """Return the values that all groups share and that are not defaults: named once, not in every title."""
    if len(groups) < 2:
        return {}
    first, *others = [_unusual(group.values) for group in groups]
    return {key: value for key, value in first.items() if all(other.get(key) == value for other in others)}


def words(values: Mapping[str, str]) -> list[str]:
    """Return `values` as overrides, numbers with four significant digits."""
    return [f"{key}={_short(value)}" for key, value in values.items()]


def _title(values: Mapping[str, str], common: Mapping[str, str]) -> str:
    """Return the model with every value that is neither the default nor shared by all configurations."""
    apart = {key: value for key, value in _unusual(values).items() if key not in common}
    return " ".join([values["model.name"], *words(apart)])


def _unusual(values: Mapping[str, str]) -> dict[str, str]:
    usual = DEFAULTS | _usual(values)
    return {key: value for key, value in values.items() if value != usual.get(key) and not _left_out(key)}


def _usual(values: Mapping[str, str]) -> dict[str, str]:
    """Return the weights and the top block of a shipped base, as its option has them."""
    blocks = bases().get(values["model.name"], {}).get("blocks")
    return {"model.weights": IMAGENET, "model.top_block": blocks[-1]} if blocks else {}


def _short(value: str) -> str:
    """Return a sampled number for a reader; the run itself has all of its digits."""
    try:
        return f"{float(value):.4g}" if len(value) > 6 else value
    except ValueError:
        return value


def _left_out(key: str) -> bool:
    """The model opens each title, and the data set is named above its table."""
    of_data = key.startswith("data.") and key not in ("data.image_size", "data.train_fraction")
    return of_data or key in ("model.name", SOURCE)
