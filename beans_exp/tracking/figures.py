"""Plots of one run, in the report's colours: red train, blue validation."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

COLOURS = {"train": "tab:red", "val": "tab:blue"}
LABELS = {"train": "train", "val": "validation"}


def curves(epochs: Sequence[dict[str, float]], selected: int) -> Figure:
    """Draw loss and accuracy of `epochs` side by side, with the start of fine-tuning and the `selected` epoch marked.

    Each item holds the metrics of one epoch; epochs are counted from 1.
    """
    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, metric in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        _curve(axes, epochs, metric)
        _mark_boundary(axes, epochs)
        axes.axvline(selected, color="0.6", linewidth=0.8, linestyle=":", label=f"selected epoch ({selected})")
    figure.axes[1].legend(loc="lower center", frameon=False)
    return figure


def _curve(axes: Axes, epochs: Sequence[dict[str, float]], metric: str) -> None:
    steps = range(1, len(epochs) + 1)
    for part, colour in COLOURS.items():
        values = [epoch[f"{part}/{metric}"] for epoch in epochs]
        axes.plot(steps, values, color=colour, marker=".", label=LABELS[part])
    axes.set(xlabel="epoch", title=metric, xlim=(0.5, len(epochs) + 0.5))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    if metric == "accuracy":
        axes.set_ylim(0, 1.02)


def _mark_boundary(axes: Axes, epochs: Sequence[dict[str, float]]) -> None:
    stages = [epoch["stage"] for epoch in epochs]
    for step, (before, after) in enumerate(pairwise(stages), start=1):
        if before != after:
            axes.axvline(step + 0.5, color="0.4", linewidth=1, linestyle="--", label="fine-tuning begins")


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, classes: Sequence[str]) -> Figure:
    """Draw the number of images by label (rows) and predicted class (columns)."""
    counts = np.zeros((len(classes), len(classes)), dtype=int)
    np.add.at(counts, (labels, predicted), 1)
    side = 2.5 + 0.8 * len(classes)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(counts, cmap="Blues", vmin=0)
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if count > counts.max() / 2 else "black"
        axes.text(column, row, str(count), ha="center", va="center", color=colour)
    names = [name.replace("_", "\n").replace("$", r"\$") for name in classes]  # no formula of Matplotlib's
    axes.set_xticks(range(len(classes)), names)
    axes.set_yticks(range(len(classes)), names)
    right = int(np.trace(counts))
    axes.set(xlabel="predicted", ylabel="label", title=f"test: {right} of {counts.sum()} right")
    return figure
