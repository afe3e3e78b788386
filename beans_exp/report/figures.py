"""The report's pictures of accuracies: curves, cost, depth, number of training images, calibration, confusion."""

import textwrap
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, PercentFormatter

from beans_exp.report.cells import percent
from beans_exp.report.groups import FinishedRun, Group
from beans_exp.report.predictions import BINS
from beans_exp.report.svg import INK, Look, Picture, looks, page_style, picture
from beans_exp.report.tables import Table

AT_MOST = 8
"""Lines in one picture: more cannot be told apart."""
PANELS = 16
"""Configurations in pictures that give each a place of its own."""
BEANS_TRAINING_IMAGES = 1034


def _best(groups: Sequence[Group], count: int) -> tuple[list[Group], str]:
    """The `count` best groups by validation accuracy, in their order, and the words that say who is left out."""
    if len(groups) <= count:
        return list(groups), ""
    ranked = sorted(groups, key=lambda group: -np.nan_to_num(group.validation))[:count]
    words = f" The {count} best by validation accuracy of {len(groups)} are shown."
    return [group for group in groups if group in ranked], words


# curves


def curves(table: Table, reported: dict[str, np.ndarray]) -> Picture | None:
    """Draw accuracies by epoch, a line a configuration; None where no run has epochs.

    `reported` holds for a row of the study the epochs that it printed: (epochs, 3) of epoch, train and validation
    accuracy, epochs of a second stage counted from 1.
    """
    having = [group for group in table.groups if any(run.curve for run in group.runs)]
    shown, rest = _best(having, AT_MOST)
    if not shown:
        return None
    with page_style():
        figure = Figure(figsize=(11, 4.2), layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        for group, look in zip(shown, looks(len(shown)), strict=True):
            printed = reported.get(group.row or "")
            for column, (axes, part) in enumerate(zip(panels, ("train", "validation"), strict=True), start=1):
                _curve(axes, group, part, look)
                if printed is not None:
                    _printed(axes, group, printed[:, [0, column]], look)
        boundaries = {run.curve.boundary for group in shown for run in group.runs if run.curve and run.curve.boundary}
        for axes, part in zip(panels, ("train", "validation"), strict=True):
            _finish_curves(axes, f"{part} accuracy", boundaries)
        figure.legend(*panels[1].get_legend_handles_labels(), loc="outside lower center", ncols=_columns(shown))
    bands = "Bands span the seeds. " if any(len(group.done) > 1 for group in shown) else ""
    dots = "Pale dots are the epochs that the study printed. " if any(group.row in reported for group in shown) else ""
    line = "The vertical line is where fine-tuning begins. " if boundaries else ""
    head = (
        "Configurations that train the same head lie on each other up to it. " if _one_head(shown, boundaries) else ""
    )
    caption = f"Accuracy by epoch, mean over seeds. {bands}{dots}{line}{head}".strip() + rest
    alt = "; ".join(f"{group.title}: {_ends(group)}" for group in shown)
    return picture(f"{table.key}-curves", f"Curves: {table.title}", caption, figure, alt)


def _one_head(groups: Sequence[Group], boundaries: Collection[int]) -> bool:
    """Whether runs of several groups have their first stage in common."""
    curves = [run.curve.validation for group in groups for run in group.runs if run.curve]
    return any(count > 1 for end in boundaries for count in Counter(one[:end].tobytes() for one in curves).values())


def _columns(groups: Sequence[Group]) -> int:
    """Of a legend below a picture: as many as the longest title lets in."""
    longest = max(len(group.title) for group in groups)
    return max(1, min(len(groups), 125 // (longest + 9)))


def _stack(group: Group, part: str) -> np.ndarray:
    """The curves of a group's runs, (runs, epochs), nan after a run's end."""
    found = [getattr(run.curve, part) for run in group.runs if run.curve]
    length = max(map(len, found))
    return np.array([np.pad(curve.astype(float), (0, length - len(curve)), constant_values=np.nan) for curve in found])


def _curve(axes: Axes, group: Group, part: str, look: Look) -> None:
    stacked = _stack(group, part)
    epochs = np.arange(1, stacked.shape[1] + 1)
    if len(stacked) > 1:
        axes.fill_between(
            epochs, np.nanmin(stacked, axis=0), np.nanmax(stacked, axis=0), color=look.colour, alpha=0.15, linewidth=0
        )
    label = group.title if len(stacked) > 1 else f"{group.title} (one seed)"
    axes.plot(epochs, np.nanmean(stacked, axis=0), color=look.colour, linestyle=look.dashes, label=label)


def _printed(axes: Axes, group: Group, printed: np.ndarray, look: Look) -> None:
    """The study's own epochs; those of a second stage go after the first stage of these runs."""
    boundary = next((run.curve.boundary for run in group.runs if run.curve and run.curve.boundary), 0) or 0
    axes.plot(
        printed[:, 0] + boundary, printed[:, 1], color=look.colour, marker=look.marker, markersize=4, linewidth=0.7,
        linestyle=":", alpha=0.6, zorder=1,
    )  # fmt: skip


def _finish_curves(axes: Axes, title: str, boundaries: set[int]) -> None:
    for boundary in boundaries:
        axes.axvline(boundary + 0.5, color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.set(title=title, xlabel="epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    _percent_axis(axes)


def _percent_axis(axes: Axes) -> None:
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(visible=True, axis="y")


def _ends(group: Group) -> str:
    return f"ends at train {percent(_mean(group, lambda run: run.train))}, validation {percent(group.validation)}"


def _mean(group: Group, figure: Callable[[FinishedRun], float]) -> float:
    values = group.figures(figure)
    return float(values.mean()) if values.size else np.nan


def _spread(group: Group, figure: Callable[[FinishedRun], float]) -> float:
    values = group.figures(figure)
    return float(values.std(ddof=1)) if values.size > 1 else 0.0


# accuracy against something


def cost(groups: Sequence[Group]) -> Picture | None:
    """Draw test accuracy against seconds of training and against the time of a prediction; None without tests."""
    tested = [group for group in groups if np.isfinite(_mean(group, lambda run: run.test))]
    shown, rest = _best(tested, PANELS)
    if not shown:
        return None
    sides: list[tuple[str, Callable[[FinishedRun], float]]] = [
        ("training, seconds (features included)", lambda run: run.training_seconds),
        ("prediction, ms an image", lambda run: run.metrics.get("time/ms_per_image", np.nan)),
    ]
    with page_style():
        figure = Figure(figsize=(11, 4.4), layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        for axes, (label, figure_of) in zip(panels, sides, strict=True):
            for group, look in zip(shown, looks(len(shown)), strict=True):
                axes.errorbar(
                    _mean(group, figure_of), _mean(group, lambda run: run.test), _spread(group, lambda run: run.test),
                    color=look.colour, marker=look.marker, markersize=7, capsize=3, linestyle="none", label=group.title,
                )  # fmt: skip
            axes.set(xscale="log", xlabel=label)
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_formatter("")
            axes.margins(x=0.15)
            _percent_axis(axes)
        panels[0].set_ylabel("test accuracy")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center")
    alt = "; ".join(
        f"{group.title}: {percent(_mean(group, lambda run: run.test))} in "
        f"{_mean(group, lambda run: run.training_seconds):.0f} s"
        for group in shown
    )
    caption = f"Up is better, left is cheaper. Bars: standard deviation over seeds.{rest}"
    return picture("cost", "Accuracy against cost", caption, figure, alt)


def depth(groups: Sequence[Group], reported: dict[int, float]) -> Picture | None:
    """Draw accuracy against the number of tuned blocks of Inception-v3; None where there is one depth only.

    `reported` is the test accuracy that the study printed for a number of blocks.
    """
    tuned = [group for group in groups if group.row and group.row.startswith("inception") and not group.notes]
    tuned = tuned or [group for group in groups if group.row and group.row.startswith("inception")]
    by_blocks = {int(group.values["finetune.blocks"]): group for group in tuned}
    if len(by_blocks) < 2:
        return None
    blocks = sorted(by_blocks)
    sides: list[tuple[str, Callable[[FinishedRun], float]]] = [
        ("validation", lambda run: run.validation),
        ("test", lambda run: run.test),
    ]
    with page_style():
        figure = Figure(figsize=(6.5, 4), layout="constrained")
        axes = figure.subplots()
        for shift, (label, figure_of), look in zip((-0.06, 0.06), sides, looks(2), strict=True):
            places = [count + shift for count in blocks]
            _line_with_bars(axes, places, [by_blocks[count] for count in blocks], figure_of, look, label)
        known = [count for count in blocks if count in reported]
        axes.plot(
            known, [reported[count] for count in known], color=INK, marker="x", linestyle=":", label="test, reported"
        )
        axes.set(xlabel="tuned blocks, from the top", ylabel="accuracy", xticks=blocks)
        _percent_axis(axes)
        axes.legend(loc="best")
    alt = "; ".join(
        f"{count} blocks: test {percent(_mean(by_blocks[count], lambda run: run.test))}" for count in blocks
    )
    caption = "Mean over seeds; bars: standard deviation over seeds."
    return picture("depth", "Depth against accuracy", caption, figure, alt)


def _line_with_bars(
    axes: Axes,
    places: Sequence[float],
    groups: Sequence[Group],
    figure_of: Callable[[FinishedRun], float],
    look: Look,
    label: str,
) -> None:
    """Draw the mean over seeds of each group at its place, with the standard deviation as a bar."""
    axes.errorbar(
        places,
        [_mean(group, figure_of) for group in groups],
        [_spread(group, figure_of) for group in groups],
        color=look.colour,
        marker=look.marker,
        linestyle=look.dashes,
        capsize=3,
        label=label,
    )


def data_size(groups: Sequence[Group]) -> Picture | None:
    """Draw test accuracy against the part of the training images; None where all configurations use one part."""
    families: dict[tuple[object, ...], list[Group]] = {}
    for group in groups:
        rest = tuple((key, value) for key, value in group.values.items() if key != "data.train_fraction")
        families.setdefault((rest, group.data), []).append(group)
    several = [sorted(family, key=_fraction) for family in families.values() if len(family) > 1]
    if not several:
        return None
    with page_style():
        figure = Figure(figsize=(6.5, 4), layout="constrained")
        axes = figure.subplots()
        for family, look in zip(several[:AT_MOST], looks(min(AT_MOST, len(several))), strict=True):
            places, label = [_fraction(group) for group in family], max(family, key=_fraction).title
            _line_with_bars(axes, places, family, lambda run: run.test, look, label)
        fractions = sorted({_fraction(group) for family in several for group in family})
        axes.set(xscale="log", ylabel="test accuracy", xlabel=_size_label(several))
        axes.set_xticks(fractions, [_size_text(several, value) for value in fractions])
        axes.minorticks_off()
        _percent_axis(axes)
        axes.legend(loc="best")
    alt = "; ".join(
        f"{group.title}: {percent(_mean(group, lambda run: run.test))}" for family in several for group in family
    )
    return picture(
        "data-size", "Accuracy against training images", "Mean over seeds; bars: standard deviation.", figure, alt
    )


def _fraction(group: Group) -> float:
    return float(group.values["data.train_fraction"])


def _all_beans(families: Sequence[Sequence[Group]]) -> bool:
    return all(group.values["data.name"] == "beans" for family in families for group in family)


def _size_label(families: Sequence[Sequence[Group]]) -> str:
    return "training images" if _all_beans(families) else "part of the training images"


def _size_text(families: Sequence[Sequence[Group]], fraction: float) -> str:
    return f"{fraction * BEANS_TRAINING_IMAGES:.0f}" if _all_beans(families) else f"{fraction:g}"


# small multiples


def reliability(groups: Sequence[Group]) -> Picture | None:
    """Draw how often predictions of a confidence are right, a panel a configuration; None without predictions."""

    def draw(axes: Axes, group: Group) -> None:
        images, confidence, right = (
            sum(getattr(tested.calibration, name) for tested in group.tested)
            for name in ("images", "confidence", "right")
        )
        used = images > 0
        axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=":")
        axes.bar((np.arange(BINS) + 0.5) / BINS, images / images.sum(), width=0.9 / BINS, color=INK, alpha=0.15)
        axes.plot(confidence[used] / images[used], right[used] / images[used], color=looks(1)[0].colour, marker="o")
        error = float(np.mean([tested.calibration.error for tested in group.tested]))
        axes.set(xlim=(0, 1), ylim=(0, 1.02), title=f"{_wrapped(group.title)}\nerror {error:.3f}")
        axes.set_aspect("equal")

    return _multiples(
        "reliability",
        "Are the probabilities what they say?",
        "Right predictions (up) against their confidence, pooled over seeds; on the dotted line both are equal, below "
        "it the model is too sure. Grey: the share of images in each bin.",
        groups,
        draw,
        lambda group: f"calibration error {np.mean([tested.calibration.error for tested in group.tested]):.3f}",
        ("confidence", "right"),
    )


def confusion(groups: Sequence[Group]) -> Picture | None:
    """Draw which class was taken for which, a panel a configuration; None without predictions."""

    def draw(axes: Axes, group: Group) -> None:
        counts = mean_confusion(group)
        axes.imshow(counts / counts.sum(axis=1, keepdims=True).clip(1e-9), cmap="Blues", vmin=0, vmax=1)
        for (row, column), count in np.ndenumerate(counts):
            dark = count > 0.5 * counts[row].sum()
            axes.text(column, row, f"{count:.3g}", ha="center", va="center", color="white" if dark else "black")
        names = [name.replace("_", "\n") for name in group.tested[0].classes]
        axes.set_xticks(range(len(names)), names, fontsize=8)
        axes.set_yticks(range(len(names)), names, fontsize=8)
        axes.set_title(_wrapped(group.title))

    return _multiples(
        "confusion",
        "Which class is taken for which?",
        "Test images by label (rows) and prediction (columns), mean over seeds.",
        groups,
        draw,
        lambda group: f"{mean_confusion(group).trace():.3g} of {mean_confusion(group).sum():.0f} right",
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
    tested = [group for group in groups if group.tested]
    shown, rest = _best(tested, PANELS)
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
    """`title` in lines that fit a small panel."""
    return "\n".join(textwrap.wrap(title, 27, max_lines=4, placeholder=" …"))
