"""Accuracy by epoch, a line for each configuration."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from beans_exp.report.columns.cells import percent
from beans_exp.report.entries import Entry, Table
from beans_exp.report.figures.common import LINES, best, percent_axis
from beans_exp.report.figures.looks import Look, Palette
from beans_exp.report.figures.svg import INK, Picture, page_style, picture
from beans_exp.report.runs.groups import Group

PARTS = ("train", "validation")


def curves(table: Table, reported: Mapping[str, np.ndarray], palette: Palette) -> Picture | None:
    """Draw accuracies by epoch, a line for each configuration; None if no run has epochs.

    `reported` has the printed epochs of some rows: (epochs, 3) of epoch, train and validation accuracy, epochs of a
    second stage counted from 1.
    """
    drawn = [entry for entry in table.entries if entry.group and any(run.curve for run in entry.group.runs)]
    shown, rest = best(drawn, LINES)
    if not shown:
        return None
    boundaries = _boundaries(shown)
    with page_style():
        figure = Figure(figsize=(11, 4.2), layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        for column, (axes, part) in enumerate(zip(panels, PARTS, strict=True), start=1):
            for entry in shown:
                _lines(axes, entry, part, reported, column, palette)
            _finish(axes, f"{part} accuracy", boundaries)
        figure.legend(*panels[1].get_legend_handles_labels(), loc="outside lower center", ncols=_columns(shown))
    alt = "; ".join(f"{entry.title}: {_ends(entry.group)}" for entry in shown if entry.group)
    caption = _caption(shown, reported, boundaries) + rest
    return picture(f"{table.key}-curves", f"Curves: {table.title}", caption, figure, alt)


def _lines(
    axes: Axes, entry: Entry, part: str, reported: Mapping[str, np.ndarray], column: int, palette: Palette
) -> None:
    assert entry.group
    look = palette.look(entry.group.key)
    _curve(axes, entry.group, entry.title, part, look)
    if entry.row and entry.row.name in reported:
        _printed(axes, entry.group, reported[entry.row.name][:, [0, column]], look)


def _caption(shown: Sequence[Entry], reported: Mapping[str, np.ndarray], boundaries: Collection[int]) -> str:
    groups = [entry.group for entry in shown if entry.group]
    sentences = ["Accuracy by epoch, mean over seeds."]
    if any(len(group.done) > 1 for group in groups):
        sentences.append("Bands span the seeds.")
    if any(entry.row and entry.row.name in reported for entry in shown):
        sentences.append("Pale dots: the epochs that the study printed.")
    if boundaries:
        sentences.append("Vertical line: start of fine-tuning.")
    if _share_a_head(groups, boundaries):
        sentences.append("Before it, configurations with the same head have the same curve.")
    return " ".join(sentences)


def _boundaries(shown: Sequence[Entry]) -> set[int]:
    found = {run.curve.boundary for entry in shown if entry.group for run in entry.group.runs if run.curve}
    return {boundary for boundary in found if boundary}


def _share_a_head(groups: Sequence[Group], boundaries: Collection[int]) -> bool:
    """Whether runs of several groups share their first stage."""
    series = [run.curve.validation for group in groups for run in group.runs if run.curve]
    return any(count > 1 for end in boundaries for count in Counter(one[:end].tobytes() for one in series).values())


def _columns(shown: Sequence[Entry]) -> int:
    """Return the columns of a legend below the figure that its longest title allows."""
    longest = max(len(entry.title) for entry in shown)
    return max(1, min(len(shown), 125 // (longest + 9)))


def _stack(group: Group, part: str) -> np.ndarray:
    """Return the curves of a group's runs, (runs, epochs), nan after a run's end."""
    found = [getattr(run.curve, part) for run in group.runs if run.curve]
    length = max(map(len, found))
    return np.array([np.pad(curve.astype(float), (0, length - len(curve)), constant_values=np.nan) for curve in found])


def _curve(axes: Axes, group: Group, title: str, part: str, look: Look) -> None:
    stacked = _stack(group, part)
    epochs = np.arange(1, stacked.shape[1] + 1)
    if len(stacked) > 1:
        low, high = np.nanmin(stacked, axis=0), np.nanmax(stacked, axis=0)
        axes.fill_between(epochs, low, high, color=look.colour, alpha=0.15, linewidth=0)
    label = title if len(stacked) > 1 else f"{title} (one seed)"
    axes.plot(
        epochs, np.nanmean(stacked, axis=0), color=look.colour, linestyle=look.dashes, label=label,
        marker=look.marker, markersize=4, markevery=max(1, len(epochs) // 6),
    )  # fmt: skip


def _printed(axes: Axes, group: Group, printed: np.ndarray, look: Look) -> None:
    """Draw a row's printed epochs; those of a second stage follow the first stage of the group's runs."""
    boundary = next((run.curve.boundary for run in group.runs if run.curve and run.curve.boundary), 0) or 0
    axes.plot(
        printed[:, 0] + boundary, printed[:, 1], color=look.colour, marker=look.marker, markersize=4, linewidth=0.7,
        linestyle=":", alpha=0.6, zorder=1,
    )  # fmt: skip


def _finish(axes: Axes, title: str, boundaries: Collection[int]) -> None:
    for boundary in boundaries:
        axes.axvline(boundary + 0.5, color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.set(title=title, xlabel="epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    percent_axis(axes)


def _ends(group: Group) -> str:
    train = percent(group.mean(lambda run: run.train))
    return f"ends at train {train}, validation {percent(group.validation)}"
