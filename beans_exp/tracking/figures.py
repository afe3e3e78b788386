"""Plots of one run, in the report's colours: red train, blue validation."""

from collections.abc import Sequence
from io import BytesIO
from itertools import pairwise

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


def png(figure: Figure) -> bytes:
    """Return `figure` drawn as a PNG file."""
    stream = BytesIO()
    figure.savefig(stream)
    return stream.getvalue()
