"""Numbers as the text of a table's cells."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

NOTHING = "-"


@dataclass(frozen=True)
class Cell:
    """The text of a cell, and a smaller text below it; `kind` is a class that the page may color.

    `bar` are shares that the page draws beside each other.
    """

    text: str
    small: str = ""
    kind: str = ""
    bar: tuple[float, ...] = ()


def percent(value: float) -> str:
    """Return a share as percent with one decimal: one test image of 128 is 0.8."""
    return f"{100 * value:.1f} %" if math.isfinite(value) else NOTHING


def points(value: float) -> str:
    """Return a difference of shares in points with its sign."""
    return f"{100 * value:+.1f}"


def decimals(count: int, unit: float = 1) -> Callable[[float], str]:
    """Return a function that formats a number in units of `unit` with `count` decimals."""
    return lambda value: f"{value / unit:.{count}f}"


def p_value(value: float) -> str:
    """Return a p with two significant digits, or a bound for a small one."""
    return "< 0.001" if value < 0.001 else f"{value:.2g}"


def mean_and_spread(values: np.ndarray, text: Callable[[float], str] = percent, note: str = "") -> Cell:
    """Return the mean, with the standard deviation over seeds below it if the seeds differ, and a `note`."""
    if not values.size:
        return Cell(NOTHING)
    spread = float(values.std(ddof=1)) if values.size > 1 else 0.0
    small = text(spread).removeprefix("+")
    shown = f"sd {small}" if small != text(0.0).removeprefix("+") else ""
    return Cell(text(float(values.mean())), "; ".join(word for word in (shown, note) if word))
