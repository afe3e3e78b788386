"""Accuracy against something: cost, a key that a study varies, the number of training images."""

from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from beans_exp.report.columns.cells import percent
from beans_exp.report.figures.common import LINES, PANELS, best, percent_axis
from beans_exp.report.figures.looks import NEUTRAL, Look, Palette
from beans_exp.report.figures.svg import INK, Picture, page_style, picture
from beans_exp.report.runs.groups import FinishedRun, Group
from beans_exp.report.studies.study import Study, Trend
from beans_exp.report.titles import shared

BEANS_TRAINING_IMAGES = 1034
BARS = "Mean over seeds; bars: standard deviation over seeds."
COSTS: tuple[tuple[str, Callable[[FinishedRun], float]], ...] = (
    ("training, seconds (features included)", lambda run: run.training_seconds),
    ("prediction, ms per image", lambda run: run.metric("time/ms_per_image")),
)
SPLITS: tuple[tuple[str, Callable[[FinishedRun], float], Look], ...] = (
    ("validation", lambda run: run.validation, Look(NEUTRAL, "o", "--")),
    ("test", lambda run: run.test, Look(INK, "s", "-")),
)


def cost(groups: Sequence[Group], palette: Palette) -> Picture | None:
    """Draw test accuracy against training time and against prediction time; None without tests."""
    shown, rest = best([group for group in groups if np.isfinite(_test(group))], PANELS)
    if not shown:
        return None
    with page_style():
        figure = Figure(figsize=(11, 4.4), layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        for axes, (label, figure_of) in zip(panels, COSTS, strict=True):
            for group in shown:
                look = palette.look(group.key)
                axes.errorbar(
                    group.mean(figure_of), _test(group), group.spread(lambda run: run.test),
                    color=look.colour, marker=look.marker, markersize=7, capsize=3, linestyle="none", label=group.title,
                )  # fmt: skip
            _log_axis(axes, label)
        panels[0].set_ylabel("test accuracy")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center")
    alt = "; ".join(
        f"{group.title}: {percent(_test(group))} in {group.mean(lambda run: run.training_seconds):.0f} s"
        for group in shown
    )
    caption = f"Up is better, left is cheaper. {BARS}{rest}"
    return picture("cost", "Accuracy against cost", caption, figure, alt)


def _log_axis(axes: Axes, label: str) -> None:
    axes.set(xscale="log", xlabel=label)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    axes.margins(x=0.15)
    percent_axis(axes)


def _test(group: Group) -> float:
    return group.mean(lambda run: run.test)


def trend(plan: Trend, study: Study, groups: Sequence[Group], chosen: Collection[str] = ()) -> Picture | None:
    """Draw accuracy against the key that `plan` names; None if fewer than two values have runs.

    Runs in `chosen` confirmed a search: their configuration is marked.
    """
    by_place = _by_place(plan, study, groups)
    if len(by_place) < 2:
        return None
    places = sorted(by_place)
    shift = 0.02 * (places[-1] - places[0]) / 2
    with page_style():
        figure = Figure(figsize=(6.5, 4), layout="constrained")
        axes = figure.subplots()
        for sign, (label, figure_of, look) in zip((-1, 1), SPLITS, strict=True):
            _line_with_bars(
                axes, [place + sign * shift for place in places], [by_place[p] for p in places], figure_of, look, label
            )
        _reported(axes, plan, study, places)
        marked = _mark_chosen(axes, by_place, chosen)
        axes.set(xlabel=plan.label, ylabel="accuracy")
        axes.set_xticks(places, [f"{place:g}" for place in places])
        percent_axis(axes)
        axes.legend(loc="best")
    alt = "; ".join(f"{plan.label} {place:g}: {_accuracy(by_place[place])}" for place in places)
    caption = BARS + "".join(f" Vertical line: {place:g}, the choice of a search." for place in marked)
    return picture(plan.key, plan.title, caption, figure, alt)


def _by_place(plan: Trend, study: Study, groups: Sequence[Group]) -> dict[float, Group]:
    """Return the configuration for each number of the trend: of several, that nearest to the rows, with most runs."""
    common = shared(groups)
    found: dict[float, tuple[int, int, Group]] = {}
    for group in groups:
        differences = plan.differences(group.values, study.rows) if group.done else None
        if differences is not None:
            apart = sum(common.get(key) != value for key, value in differences.items())
            candidate = (-apart, len(group.done), group)
            place = plan.place(group.values)
            if place not in found or candidate[:2] > found[place][:2]:
                found[place] = candidate
    return {place: group for place, (_, _, group) in found.items()}


def _mark_chosen(axes: Axes, by_place: Mapping[float, Group], chosen: Collection[str]) -> list[float]:
    """Draw a line at each place whose runs confirmed a search, and return these places."""
    marked = [place for place, group in by_place.items() if any(run.run_id in chosen for run in group.runs)]
    for place in marked:
        axes.axvline(place, color=NEUTRAL, linestyle="-.", linewidth=1)
    return sorted(marked)


def _accuracy(group: Group) -> str:
    tested = np.isfinite(_test(group))
    return f"test {percent(_test(group))}" if tested else f"validation {percent(group.validation)}"


def _reported(axes: Axes, plan: Trend, study: Study, places: Sequence[float]) -> None:
    """Draw the printed test accuracy of the rows at `places`, if there is any."""
    rows = [study.rows[name] for name in plan.rows]
    key = "test/accuracy"
    printed = {plan.place(row.values): row.reported[key] for row in rows if key in row.reported}
    known = [place for place in places if place in printed]
    if known:
        values = [printed[place] for place in known]
        axes.plot(known, values, color=INK, marker="x", linestyle=":", label="test, reported")


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
        [group.mean(figure_of) for group in groups],
        [group.spread(figure_of) for group in groups],
        color=look.colour,
        marker=look.marker,
        linestyle=look.dashes,
        capsize=3,
        label=label,
    )


def data_size(groups: Sequence[Group], palette: Palette) -> Picture | None:
    """Draw test accuracy against the fraction of the training images; None if all configurations use the same."""
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
        for family in several[:LINES]:
            places, whole = [_fraction(group) for group in family], family[-1]
            _line_with_bars(axes, places, family, lambda run: run.test, palette.look(whole.key), whole.title)
        fractions = sorted({_fraction(group) for family in several for group in family})
        axes.set(xscale="log", ylabel="test accuracy", xlabel=_size_label(several))
        axes.set_xticks(fractions, [_size_text(several, value) for value in fractions])
        axes.minorticks_off()
        percent_axis(axes)
        axes.legend(loc="best")
    alt = "; ".join(f"{group.title}: {percent(_test(group))}" for family in several for group in family)
    return picture("data-size", "Accuracy against training images", BARS, figure, alt)


def _fraction(group: Group) -> float:
    return float(group.values["data.train_fraction"])


def _all_beans(families: Sequence[Sequence[Group]]) -> bool:
    return all(group.values["data.name"] == "beans" for family in families for group in family)


def _size_label(families: Sequence[Sequence[Group]]) -> str:
    return "training images" if _all_beans(families) else "fraction of the training images"


def _size_text(families: Sequence[Sequence[Group]], fraction: float) -> str:
    return f"{fraction * BEANS_TRAINING_IMAGES:.0f}" if _all_beans(families) else f"{fraction:g}"
