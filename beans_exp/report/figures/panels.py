"""Small multiples, a panel for each configuration: calibration and confusion."""

import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from beans_exp.report.figures.common import PANELS, best
from beans_exp.report.figures.looks import Palette
from beans_exp.report.figures.svg import INK, Picture, page_style, picture
from beans_exp.report.runs.calibration import BINS
from beans_exp.report.runs.groups import Group
from beans_exp.tracking.confusion import NUMBERED, name_axes, write_counts


def reliability(groups: Sequence[Group], palette: Palette) -> Picture | None:
    """Draw accuracy by confidence, a panel for each configuration; None without predictions."""

    def draw(axes: Axes, group: Group) -> None:
        look = palette.look(group.key)
        images, confidence, right = (
            sum(getattr(tested.calibration, name) for tested in group.tested)
            for name in ("images", "confidence", "right")
        )
        used = images > 0
        axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=":")
        axes.bar((np.arange(BINS) + 0.5) / BINS, images / images.sum(), width=0.9 / BINS, color=INK, alpha=0.15)
        axes.plot(
            confidence[used] / images[used], right[used] / images[used], color=look.colour, marker=look.marker,
            linestyle=look.dashes,
        )  # fmt: skip
        title = f"{_wrapped(group.title)}\nerror {_calibration_error(group):.3f}, perfect {_perfect_error(group):.3f}"
        axes.set(xlim=(0, 1), ylim=(0, 1.02), title=title)
        axes.set_aspect("equal")

    return _multiples(
        "reliability",
        "Are the probabilities calibrated?",
        "Accuracy (up) against confidence, pooled over seeds. On the dotted line both are equal; below it the model is "
        "overconfident. Gray: share of the images in each bin. Above: the calibration error, and that expected of a "
        "perfectly calibrated model with as many images.",
        groups,
        draw,
        lambda group: f"calibration error {_calibration_error(group):.3f}",
        ("confidence", "accuracy"),
    )


def _calibration_error(group: Group) -> float:
    return float(np.mean([tested.calibration.error for tested in group.tested]))


def _perfect_error(group: Group) -> float:
    return float(np.mean([tested.calibration.perfect_mean for tested in group.tested]))


def confusion(groups: Sequence[Group]) -> Picture | None:
    """Draw confusion matrices, a panel for each configuration; None without predictions."""

    def draw(axes: Axes, group: Group) -> None:
        counts = mean_confusion(group)
        axes.imshow(counts / counts.sum(axis=1, keepdims=True).clip(1e-9), cmap="Blues", vmin=0, vmax=1)
        if len(counts) <= NUMBERED:
            write_counts(axes, counts, counts > 0.5 * counts.sum(axis=1, keepdims=True), ".3g")
            name_axes(axes, group.tested[0].classes, fontsize=8)
        axes.set_title(_wrapped(group.title))

    return _multiples(
        "confusion",
        "Which classes are confused?",
        "Test images by label (rows) and prediction (columns), mean over seeds.",
        groups,
        draw,
        lambda group: f"{mean_confusion(group).trace():.3g} of {mean_confusion(group).sum():.0f} correct",
        ("predicted", "label"),
        side=3.1,
    )


def mean_confusion(group: Group) -> np.ndarray:
    """Return images by label and prediction, mean over seeds, float64 (classes, classes)."""
    return np.mean([tested.confusion for tested in group.tested], axis=0)


def _multiples(
    key: str,
    title: str,
    caption: str,
    groups: Sequence[Group],
    draw: Callable[[Axes, Group], None],
    words: Callable[[Group], str],
    labels: tuple[str, str],
    side: float = 2.7,
) -> Picture | None:
    shown, rest = best([group for group in groups if group.tested], PANELS)
    if not shown:
        return None
    columns = min(4, len(shown))
    rows = -(-len(shown) // columns)
    with page_style():
        lines = max(_wrapped(group.title).count("\n") for group in shown)
        figure = Figure(figsize=(side * columns, (side + 0.3 + 0.15 * lines) * rows), layout="constrained")
        panels: Any = figure.subplots(rows, columns, squeeze=False)
        for axes, group in zip(panels.flat, shown, strict=False):
            draw(axes, group)
        for axes in panels.flat[len(shown) :]:
            axes.set_axis_off()
        figure.supxlabel(labels[0], fontsize=10)
        figure.supylabel(labels[1], fontsize=10)
    alt = "; ".join(f"{group.title}: {words(group)}" for group in shown)
    return picture(key, title, caption + rest, figure, alt)


def _wrapped(title: str) -> str:
    """Return `title` in lines that fit a small panel."""
    return "\n".join(textwrap.wrap(title, 27, max_lines=4, placeholder=" …"))
