"""Columns of convergence and cost."""

import math
from collections.abc import Callable

from beans_exp.report.columns.cells import NOTHING, Cell, decimals, percent
from beans_exp.report.columns.column import Column, of_group, of_metric, of_runs
from beans_exp.report.entries import Entry
from beans_exp.report.runs.convergence import Convergence, Scale, convergence
from beans_exp.report.runs.groups import Group


def cost(scale: Scale) -> list[Column]:
    """Return the columns of convergence and cost."""
    return [
        *_convergence(scale),
        Column(
            "training, minutes",
            "all epochs, plus the computation of cached features",
            of_runs(lambda run: run.training_seconds, decimals(1, 60)),
        ),
        of_metric("memory/peak_rss_mb"),
        of_metric("model/parameters"),
        of_metric("model/trainable_parameters"),
        of_metric("model/macs"),
        of_metric("time/ms_per_image"),
    ]


def _convergence(scale: Scale) -> list[Column]:
    def cell(show: Callable[[Convergence], Cell]) -> Callable[[Entry], Cell]:
        def show_group(group: Group) -> Cell:
            found = convergence(group, scale.threshold, scale.horizon)
            return show(found) if found else Cell(NOTHING)

        return of_group(show_group)

    level = f"{100 * scale.threshold:.3g} %"
    return [
        Column(
            f"epochs to {level}",
            f"first epoch with a validation accuracy of {level}, median over seeds; below it: how many runs reached "
            "it, and how many were at or above it in their last epoch",
            cell(_epochs),
        ),
        Column(
            f"minutes to {level}",
            "training until then, plus the computation of cached features, median over seeds",
            cell(lambda found: Cell(f"{found.seconds / 60:.1f}" if math.isfinite(found.seconds) else NOTHING)),
        ),
        Column(
            "mean validation",
            f"mean of the validation curve over {scale.horizon} epochs, with the last value held for shorter runs, so "
            "that a run that ends badly does not look fast",
            cell(lambda found: Cell(percent(found.area))),
        ),
    ]


def _epochs(found: Convergence) -> Cell:
    text = f"{found.epochs:g}" if math.isfinite(found.epochs) else "never"
    return Cell(text, f"{found.reached} of {found.runs} reached it, {found.held} ended there")
