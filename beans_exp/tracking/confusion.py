"""Confusion matrices of any number of classes, at a bounded size."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

NUMBERED = 25
"""The most classes whose cells show their numbers; more are a heat map of fixed size."""
HEAT_MAP_INCHES = (13.0, 7.5)
LISTED = 20
"""The most confused pairs that are listed beside a heat map."""
NAME_LENGTH = 24
"""Characters of a class name that a figure shows."""


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, classes: Sequence[str]) -> Figure:
    """Draw the number of images by label (rows) and predicted class (columns).

    With more than `NUMBERED` classes, the figure is a heat map of fixed size beside a table of the most confused pairs.
    """
    counts = np.zeros((len(classes), len(classes)), dtype=int)
    np.add.at(counts, (labels, predicted), 1)
    numbered = len(classes) <= NUMBERED
    side = 2.5 + 0.8 * len(classes)
    figure = Figure(figsize=(side, side) if numbered else HEAT_MAP_INCHES, layout="constrained")
    axes, *table = figure.subplots(1, 1 if numbered else 2, squeeze=False)[0]
    axes.imshow(counts, cmap="Blues", vmin=0)
    if numbered:
        write_counts(axes, counts, counts > counts.max() / 2, "d")
        name_axes(axes, classes)
    else:
        _list_pairs(table[0], counts, classes)
    right = int(np.trace(counts))
    axes.set(xlabel="predicted", ylabel="label", title=f"test: {right} of {counts.sum()} right")
    return figure


def write_counts(axes: Axes, counts: np.ndarray, dark: np.ndarray, form: str) -> None:
    """Write each of `counts` into its cell, in white where the cell is `dark`."""
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if dark[row, column] else "black"
        axes.text(column, row, f"{count:{form}}", ha="center", va="center", color=colour)


def name_axes(axes: Axes, classes: Sequence[str], fontsize: float | None = None) -> None:
    """Label rows and columns with the names of the classes, as they are: a dollar sign begins no formula."""
    names = [shortened(name).replace("_", "\n") for name in classes]
    axes.set_xticks(range(len(names)), names, parse_math=False, fontsize=fontsize)
    axes.set_yticks(range(len(names)), names, parse_math=False, fontsize=fontsize)


def shortened(name: str) -> str:
    """Return `name` on one line, cut to `NAME_LENGTH` characters."""
    line = " ".join(name.split())
    return line if len(line) <= NAME_LENGTH else f"{line[: NAME_LENGTH - 1]}…"


def most_confused(counts: np.ndarray, classes: Sequence[str]) -> list[tuple[str, str, int]]:
    """Return label, predicted class and number of images of the `LISTED` most confused pairs, the largest first."""
    wrong = counts * (1 - np.eye(len(counts), dtype=int))
    order = np.argsort(-wrong, axis=None, kind="stable")[:LISTED]
    pairs = zip(*np.unravel_index(order, wrong.shape), strict=True)
    return [(classes[row], classes[column], int(wrong[row, column])) for row, column in pairs if wrong[row, column]]


def _list_pairs(axes: Axes, counts: np.ndarray, classes: Sequence[str]) -> None:
    """Show the most confused pairs as a table; class names are never parsed as formulas."""
    axes.set_axis_off()
    rows = [[shortened(label), shortened(taken), str(count)] for label, taken, count in most_confused(counts, classes)]
    axes.set_title("most confused" if rows else "no image is misclassified")
    if not rows:
        return
    table = axes.table(rows, colLabels=["label", "predicted", "images"], loc="upper center", cellLoc="left")
    table.auto_set_font_size(False)
    for cell in table.get_celld().values():
        cell.get_text().set(parse_math=False, fontsize=8)
