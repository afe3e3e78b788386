"""Studies: tables, contrasts and trends over rows, planned before the runs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import yaml

from beans_exp.report.studies.rows import Row

PRETRAINED = "model.pretrained"
"""A family's key for weights: true for pre-trained ones, false for random ones."""


@dataclass(frozen=True)
class PlannedTable:
    """A table of rows, and the row that the others are compared with; without one, `compare_freely` decides."""

    key: str
    title: str
    question: str
    rows: tuple[str, ...]
    baseline: str | None


@dataclass(frozen=True)
class Family:
    """The configurations that have one of the accepted values in each of `values`."""

    values: dict[str, list[Any]]

    def has(self, values: Mapping[str, str]) -> bool:
        """Whether a configuration with `values` belongs to the family."""
        return all(_value(values, key) in accepted for key, accepted in self.values.items())


@dataclass(frozen=True)
class Contrast:
    """The best configuration of each of two families, chosen by validation; the first family is the baseline."""

    key: str
    title: str
    question: str
    families: tuple[Family, Family]


@dataclass(frozen=True)
class Trend:
    """A figure: accuracy against the number at the configuration key `value`, of rows and of all runs between them."""

    key: str
    title: str
    value: str
    label: str
    rows: tuple[str, ...]

    def place(self, values: Mapping[str, str]) -> float:
        """Return the number of a configuration with `values`."""
        return float(yaml.safe_load(values[self.value]))

    def differences(self, values: dict[str, str], rows: Mapping[str, Row]) -> dict[str, str] | None:
        """Return the differences of a configuration from one of the trend's `rows`, apart from the key that varies.

        None if it differs from every row in more than that key and what rows may differ in.
        """
        for row in (rows[name] for name in self.rows):
            moved = values | {self.value: row.values[self.value]}
            if row.counts(moved):
                return row.differences(moved)
        return None


@dataclass(frozen=True)
class Study:
    """A study: its rows by name, and its plan."""

    name: str
    title: str
    rows: dict[str, Row]
    tables: list[PlannedTable] = field(default_factory=list)
    contrasts: list[Contrast] = field(default_factory=list)
    trends: list[Trend] = field(default_factory=list)
    epochs: dict[str, np.ndarray] = field(default_factory=dict)
    """Printed epochs by row: float64 (epochs, 3) of epoch, train and validation accuracy."""

    @property
    def order(self) -> list[str]:
        """The names of the rows in the order of the tables."""
        return list(dict.fromkeys(name for table in self.tables for name in table.rows))


def _value(values: Mapping[str, str], key: str) -> Any:
    if key == PRETRAINED:
        return values["model.weights"] != "null"
    return yaml.safe_load(values[key])
