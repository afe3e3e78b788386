"""Which row of the reproduced study a group of runs is: found by what the runs are, never by their labels."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from beans_exp.report.groups import DECIDING, DEFAULTS, Group, decides
from beans_exp.schema import CONF, Config
from beans_exp.tracking.params import flat_params

BESIDE = ("model.weights", "trainer.")
"""Other weights and another trainer do not make another row: they are noted beside it."""
TITLES = {
    "lenet": "LeNet",
    "lenet_l1": "LeNet + L1 0.01",
    "lenet_l2": "LeNet + L2 0.01",
    "lenet_dropout": "LeNet + dropout 0.2",
    "lenet_k3": "LeNet, kernels 3x3",
    "lenet_k7": "LeNet, kernels 7x7",
    "lenet_narrow": "LeNet, filters 3-8-60",
    "lenet_wide": "LeNet, filters 12-32-240",
    "inception_frozen": "Inception-v3, frozen",
    "inception_top2": "Inception-v3, top 2 blocks",
    "inception_top3": "Inception-v3, top 3 blocks",
    "inception_top6": "Inception-v3, top 6 blocks",
}
USUAL = {"model.weights": "imagenet", "model.top_block": "mixed10"}
"""What `model=inception` has unless told: no word in a title."""
GROUPS: dict[str, Any] = {item.name: item.type for item in fields(Config) if item.name in DECIDING}


@dataclass(frozen=True)
class Row:
    """A row of the study: its name, what a run of it is, and the figures that the study printed."""

    name: str
    values: dict[str, str]
    reported: dict[str, float]

    @property
    def title(self) -> str:
        return TITLES.get(self.name, self.name)


def study_rows() -> dict[str, Row]:
    """Return every option of the group `study`, by name.

    Their files are read as they are: Hydra would compose the same (a test compares) in a hundred times the time.
    """
    return {file.stem: _row(file) for file in sorted((CONF / "study").glob("*.yaml"))}


def _row(file: Path) -> Row:
    row = yaml.safe_load(file.read_text())
    chosen = {key.removeprefix("override /"): option for item in row["defaults"] for key, option in item.items()}
    groups: dict[str, Any] = {}
    for name, kind in GROUPS.items():
        option = yaml.safe_load((CONF / name / f"{chosen[name]}.yaml").read_text()) if name in chosen else {}
        groups[name] = kind(**option | row.get(name, {}))
    values = {key: value for key, value in flat_params(Config(**groups)).items() if decides(key)}
    if groups["model"].pretrained:  # whatever weights this machine's environment names: the study's are ImageNet's
        values["model.weights"] = USUAL["model.weights"]
    return Row(file.stem, values, row["study"]["reported"])


def assign_rows(groups: Sequence[Group], rows: dict[str, Row]) -> None:
    """Set the `row`, the `title` and the `notes` of each group; what is no row is named by what sets it apart."""
    common = shared(groups)
    for group in groups:
        row = next((row for row in rows.values() if is_row(group.values, row.values)), None)
        group.row = row.name if row else None
        group.title = row.title if row else _title(group.values, common)
        apart = {key: value for key, value in group.values.items() if key not in common}
        group.notes = notes_beside(apart, row.values) if row else []


def is_row(values: dict[str, str], row: dict[str, str]) -> bool:
    """Whether runs with `values` count for a `row`: equal but for what is noted beside, pre-trained both or neither."""
    if (values["model.weights"] == "null") != (row["model.weights"] == "null"):
        return False
    return all(values.get(key) == value for key, value in row.items() if not key.startswith(BESIDE))


def notes_beside(values: dict[str, str], row: dict[str, str]) -> list[str]:
    """Return in words what a group has other than its row, though it counts for it."""
    differing = {key: value for key, value in values.items() if key.startswith(BESIDE) and value != row.get(key)}
    return [f"{key.removeprefix('model.')}={value}" for key, value in differing.items()]


def shared(groups: Sequence[Group]) -> dict[str, str]:
    """Return the values that all groups have and that are not the defaults': said once, not in every title."""
    if len(groups) < 2:
        return {}
    first, *others = [_unusual(group.values) for group in groups]
    return {key: value for key, value in first.items() if all(other.get(key) == value for other in others)}


def words(values: dict[str, str]) -> list[str]:
    """Return `values` as they would be chosen, numbers with four digits that count."""
    return [f"{key}={_short(value)}" for key, value in values.items()]


def _title(values: dict[str, str], common: dict[str, str]) -> str:
    """The model, and every value that is neither the default's nor all configurations'."""
    apart = {key: value for key, value in _unusual(values).items() if key not in common}
    return " ".join([values["model.name"], *words(apart)])


def _unusual(values: dict[str, str]) -> dict[str, str]:
    usual = DEFAULTS | (USUAL if values["model.name"] == "inception" else {})
    return {key: value for key, value in values.items() if value != usual.get(key) and not _left_out(key)}


def _short(value: str) -> str:
    """A number that was drawn, as a reader wants it; the run itself has all of its digits."""
    try:
        return f"{float(value):.4g}" if len(value) > 6 else value
    except ValueError:
        return value


def _left_out(key: str) -> bool:
    """The model is said first; which data set it was stands above its table."""
    return key == "model.name" or (key.startswith("data.") and key not in ("data.image_size", "data.train_fraction"))
