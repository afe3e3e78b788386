"""How fast a run learns: until it reaches a validation accuracy, and over all of its epochs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from beans_exp.report.groups import FinishedRun, Group


@dataclass(frozen=True)
class Reached:
    """The first epoch, from 1, whose validation accuracy is the threshold or more; inf where none is."""

    epoch: float
    seconds: float
    """Of training up to the end of that epoch, and what the cached features cost."""
    held: bool
    """Whether the last epoch is at the threshold or above, too."""


@dataclass(frozen=True)
class Convergence:
    """A group's runs together: medians, in which a run that never gets there counts as endless."""

    epochs: float
    seconds: float
    reached: int
    held: int
    runs: int
    area: float
    """Mean validation accuracy over the epochs up to the report's longest run, the last one held to there."""


def reached(run: FinishedRun, threshold: float) -> Reached:
    """Return when `run` first reached the validation accuracy `threshold`; a run without a curve never did."""
    above = run.curve.validation >= threshold if run.curve else np.zeros(0, dtype=bool)
    if run.curve is None or not above.any():
        return Reached(np.inf, np.inf, held=False)
    first = int(above.argmax())
    seconds = float(run.curve.seconds[: first + 1].sum()) + run.metrics.get("time/features_seconds", 0.0)
    return Reached(first + 1, seconds, held=bool(above[-1]))


def area(validation: np.ndarray, horizon: int) -> float:
    """Return the mean over `horizon` epochs of `validation` accuracy (epochs,), its last value held: 0..1.

    A run that reaches much and falls again, or stops early at little, does not look fast by it.
    """
    held = np.pad(validation[:horizon], (0, max(0, horizon - len(validation))), mode="edge")
    return float(held.mean(dtype=np.float64))


def convergence(group: Group, threshold: float, horizon: int) -> Convergence | None:
    """Return how fast the runs of `group` learn; None where none has a curve."""
    runs = [run for run in group.runs if run.curve]
    if not runs:
        return None
    every = [reached(run, threshold) for run in runs]
    return Convergence(
        _median([one.epoch for one in every]),
        _median([one.seconds for one in every]),
        sum(np.isfinite(one.epoch) for one in every),
        sum(one.held for one in every),
        len(runs),
        float(np.mean([area(run.curve.validation, horizon) for run in runs if run.curve])),
    )


def _median(values: Sequence[float]) -> float:
    """The median that is one of the values, the later one of two: the mean of 3 and never says nothing."""
    return sorted(values)[len(values) // 2]


def longest(groups: Sequence[Group]) -> int:
    """Return the epochs of the longest finished run of `groups`; 1 where there is none."""
    return max((len(run.curve.train) for group in groups for run in group.runs if run.curve), default=1)
