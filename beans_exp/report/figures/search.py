"""Figures of a search: the importance of its parameters, and every configuration as a line."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import yaml
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from beans_exp.report.entries import Table
from beans_exp.report.figures.looks import NEUTRAL
from beans_exp.report.figures.svg import Picture, page_style, picture
from beans_exp.report.runs.groups import Group

SCALE = ("#3d87c9", "#d97b29")
"""From the worst to the best accuracy, both visible on white and on black."""
FEWEST = 10
"""Configurations below which neither figure is informative."""


def search_pictures(table: Table) -> list[Picture]:
    """Return importance and parallel coordinates of a table's configurations; none if too little varies."""
    groups = [group for group in table.groups if np.isfinite(group.validation)]
    keys = varied(groups)
    if len(groups) < FEWEST or len(keys) < 2 or len({group.validation for group in groups}) < 2:
        return []
    return [_importance(table, groups, keys), _parallel(table, groups, keys)]


def varied(groups: Sequence[Group]) -> list[str]:
    """Return the keys whose values differ between `groups`; a key that a group does not have is null there."""
    keys = dict.fromkeys(key for group in groups for key in group.values)
    return [key for key in keys if len({group.values.get(key, "null") for group in groups}) > 1]


def _values(groups: Sequence[Group], key: str) -> list[Any]:
    return [yaml.safe_load(group.values.get(key, "null")) for group in groups]


def importances(groups: Sequence[Group], keys: Sequence[str]) -> dict[str, float]:
    """Return the share of the variance of validation accuracy that each of `keys` explains, by Optuna's fANOVA."""
    import optuna
    from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

    columns = {key: _values(groups, key) for key in keys}
    distributions: dict[str, BaseDistribution] = {}
    for key, values in columns.items():
        if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
            distributions[key] = FloatDistribution(min(values), max(values))
        else:
            columns[key] = [str(value) for value in values]
            distributions[key] = CategoricalDistribution(sorted(set(columns[key])))
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(direction="maximize")
        for index, group in enumerate(groups):
            params = {key: columns[key][index] for key in keys}
            study.add_trial(optuna.create_trial(params=params, distributions=distributions, value=group.validation))
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    finally:
        optuna.logging.set_verbosity(verbosity)
    return {key: float(value) for key, value in found.items()}


def _importance(table: Table, groups: Sequence[Group], keys: Sequence[str]) -> Picture:
    found = importances(groups, keys)
    names = sorted(found, key=lambda key: found[key])
    with page_style():
        figure = Figure(figsize=(6.5, 1.2 + 0.35 * len(names)), layout="constrained")
        axes = figure.subplots()
        axes.barh(names, [found[name] for name in names], color=NEUTRAL)
        axes.set(xlabel="share of the variance of validation accuracy", xlim=(0, 1))
    alt = "; ".join(f"{name} {found[name]:.2f}" for name in reversed(names))
    caption = f"fANOVA over {len(groups)} configurations, within the searched ranges."
    return picture(f"{table.key}-importance", f"Which parameter matters: {table.title}", caption, figure, alt)


def _parallel(table: Table, groups: Sequence[Group], keys: Sequence[str]) -> Picture:
    columns = [_axis(_values(groups, key)) for key in keys]
    accuracy = np.array([group.validation for group in groups])
    columns.append(_axis(accuracy.tolist()))
    order = np.argsort(accuracy)
    colours = LinearSegmentedColormap.from_list("worst to best", SCALE)
    with page_style():
        figure = Figure(figsize=(max(6.5, 1.8 * len(columns)), 4.2), layout="constrained")
        axes = figure.subplots()
        for rank, index in enumerate(order):
            colour = colours(rank / max(1, len(order) - 1))
            axes.plot(
                range(len(columns)), [places[index] for places, _ in columns], color=colour, linewidth=1, alpha=0.7
            )
        for number, (_, ticks) in enumerate(columns):
            axes.axvline(number, color=NEUTRAL, linewidth=0.8)
            for place, text in ticks:
                axes.annotate(text, (number, place), xytext=(4, 0), textcoords="offset points", fontsize=8, va="center")
        axes.set_xticks(range(len(columns)), [*keys, "validation accuracy"])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
    best = groups[int(order[-1])]
    alt = (
        f"{len(groups)} configurations; the best is {best.title} with {100 * best.validation:.1f} % validation accuracy"
    )
    caption = "A line for each configuration; its color is the validation accuracy, from blue (worst) to orange (best)."
    return picture(f"{table.key}-parallel", f"Every configuration: {table.title}", caption, figure, alt)


def _axis(values: Sequence[object]) -> tuple[list[float], list[tuple[float, str]]]:
    """Return each value's place on an axis from 0 to 1, and the axis' ticks: (place, text)."""
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) == len(values):
        low, high = min(numbers), max(numbers)
        logarithmic = low > 0 and high / low > 30
        scale = (lambda value: float(np.log(value))) if logarithmic else float
        span = scale(high) - scale(low) or 1.0
        return [(scale(value) - scale(low)) / span for value in numbers], [(0, f"{low:.3g}"), (1, f"{high:.3g}")]
    kinds = sorted({str(value) for value in values})
    place = {kind: index / max(1, len(kinds) - 1) for index, kind in enumerate(kinds)}
    return [place[str(value)] for value in values], [(place[kind], kind) for kind in kinds]
