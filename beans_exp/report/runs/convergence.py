"""How fast a run learns: epochs until a validation accuracy is reached, and the mean over all epochs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from beans_exp.report.runs.groups import FinishedRun, Group


@dataclass(frozen=True)
class Scale:
    """How convergence is measured: the validation accuracy to reach, and the epochs of the report's longest run."""

    threshold: float
    horizon: int


@dataclass(frozen=True)
class Reached:
    """The first epoch, from 1, with a validation accuracy of the threshold or more; inf if there is none."""

    epoch: float
    seconds: float
    """Of training up to the end of that epoch, plus the computation of cached features."""
    held: bool
    """Whether the last epoch is at the threshold or above, too."""


@dataclass(frozen=True)
class Convergence:
    """A group's runs together, as medians; a run that never reaches the threshold counts as infinite."""

    epochs: float
    seconds: float
    reached: int
    held: int
    runs: int
    area: float
    """Mean validation accuracy over the epochs of the report's longest run; shorter runs hold their last value."""


def reached(run: FinishedRun, threshold: float) -> Reached:
    """Return when `run` first reached the validation accuracy `threshold`: never, for a run without a curve."""
    above = run.curve.validation >= threshold if run.curve else np.zeros(0, dtype=bool)
    if run.curve is None or not above.any():
        return Reached(np.inf, np.inf, held=False)
    first = int(above.argmax())
    seconds = float(run.curve.seconds[: first + 1].sum()) + run.metrics.get("time/features_seconds", 0.0)
    return Reached(first + 1, seconds, held=bool(above[-1]))


def area(validation: np.ndarray, horizon: int) -> float:
    """Return the mean over `horizon` epochs of `validation` accuracy (epochs,), with its last value held: 0..1.

    A run that peaks and falls again, or stops early at a low value, does not look fast.
    """
    held = np.pad(validation[:horizon], (0, max(0, horizon - len(validation))), mode="edge")
    return float(held.mean(dtype=np.float64))


def convergence(group: Group, threshold: float, horizon: int) -> Convergence | None:
    """Return how fast the runs of `group` learn; None if none has a curve."""
    runs = [run for run in group.runs if run.curve]
    if not runs:
        return None
    every = [reached(run, threshold) for run in runs]
    return Convergence(
        float(np.median([one.epoch for one in every])),
        float(np.median([one.seconds for one in every])),
        sum(np.isfinite(one.epoch) for one in every),
        sum(one.held for one in every),
        len(runs),
        float(np.mean([area(run.curve.validation, horizon) for run in runs if run.curve])),
    )


def longest(groups: Sequence[Group]) -> int:
    """Return the epochs of the longest finished run of `groups`; 1 if there is none."""
    return max((len(run.curve.train) for group in groups for run in group.runs if run.curve), default=1)
