"""Shared by the figures: the choice of configurations to show, and axes in percent."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

LINES = 8
"""Lines in one figure; more are hard to tell apart."""
PANELS = 16
"""Configurations in figures that give each a place of its own."""


class HasValidation(Protocol):
    """Has a mean validation accuracy, nan if there is none."""

    @property
    def validation(self) -> float: ...


Item = TypeVar("Item", bound=HasValidation)


def best(items: Sequence[Item], count: int) -> tuple[list[Item], str]:
    """Return the `count` best of `items` by validation, in their order, and a sentence if some are left out."""
    if len(items) <= count:
        return list(items), ""
    ranked = sorted(range(len(items)), key=lambda place: -np.nan_to_num(items[place].validation))[:count]
    return [
        items[place] for place in sorted(ranked)
    ], f" Shown: the {count} best of {len(items)} by validation accuracy."


def percent_axis(axes: Axes) -> None:
    """Show accuracies as percent, with grid lines."""
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(visible=True, axis="y")
