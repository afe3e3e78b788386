"""The end of a search: its best configurations on fresh seeds, ranked by validation; the winner's one look at test."""

import csv
import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

from hydra.core.utils import JobStatus
from optuna.trial import FrozenTrial, TrialState
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from beans_exp.hpo import space
from beans_exp.hpo.study import FINGERPRINT
from beans_exp.schema import ObjectiveConfig
from beans_exp.sweep.composer import Composer
from beans_exp.sweep.point import Point
from beans_exp.sweep.sweep_jobs import SweepJobs, objective_values

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Candidate:
    """A configuration of the search that was run again on fresh seeds: a point and its objective for each of them."""

    trial: FrozenTrial
    points: list[Point]
    values: list[float]

    @property
    def mean(self) -> float:
        return mean(self.values)

    @property
    def spread(self) -> str:
        """The mean over the seeds and their standard deviation, as text."""
        return f"{self.mean:.4f} ± {stdev(self.values):.4f}" if len(self.values) > 1 else f"{self.mean:.4f}"


@dataclass(frozen=True)
class Confirmation:
    """What became of the best trials: the winner by mean validation, if any; whether everything ran."""

    winner: FrozenTrial | None
    complete: bool


def best_trials(trials: Sequence[FrozenTrial], maximize: bool, count: int) -> list[FrozenTrial]:
    """Return the best completed trials, of equal ones the first, the best first."""
    done = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    ranked = sorted(done, key=lambda trial: trial.values[0], reverse=maximize)
    distinct: dict[Any, FrozenTrial] = {}
    for trial in ranked:
        distinct.setdefault(trial.user_attrs.get(FINGERPRINT, trial.number), trial)
    return list(distinct.values())[:count]


def confirm(
    trials: Sequence[FrozenTrial], composer: Composer, jobs: SweepJobs, objective: ObjectiveConfig
) -> Confirmation:
    """Run the best `confirm.top` trials on `confirm.seeds` fresh seeds, and test the winner's runs.

    Ranked by the mean of the objective on validation. No other run is tested: one look, at the winner's.
    """
    shared = composer.shared()
    wanted = shared.confirm
    if wanted.top == 0:
        return Confirmation(None, complete=True)
    if len(objective.metrics) > 1:
        log.info("several objectives have no single best configuration: none is confirmed")
        return Confirmation(None, complete=True)
    maximize = objective.directions[0] == "maximize"
    best = best_trials(trials, maximize, wanted.top)
    fresh = _fresh_seeds(trials, shared.seed, wanted.seeds)
    points = {trial.number: _points(trial, composer, fresh) for trial in best}
    log.info("confirmation: %d configurations on %d fresh seeds each", len(points), wanted.seeds)
    values = run_points(jobs, [point for seeds in points.values() for point in seeds])
    ranked = _ranked(trials, points, values, maximize)
    tests = [composer.tested(point) for point in ranked[0].points] if ranked else []
    tested = run_points(jobs, tests)
    accuracies = [jobs.metric(point, "test/accuracy") for point in tests]
    _print(ranked, [value for value in accuracies if value is not None], objective.metrics[0], wanted.seeds)
    _log(ranked, jobs)
    whole = len(values) == wanted.seeds * len(points) and len(tested) == len(tests)
    return Confirmation(ranked[0].trial if ranked else None, whole)


def _ranked(
    trials: Sequence[FrozenTrial], points: dict[int, list[Point]], values: dict[str, float], maximize: bool
) -> list[Candidate]:
    """The trials whose runs all ended well, the best mean first."""
    found = [
        Candidate(trial, points[trial.number], [values[point.fingerprint] for point in points[trial.number]])
        for trial in trials
        if all(point.fingerprint in values for point in points.get(trial.number, [])) and trial.number in points
    ]
    return sorted(found, key=lambda candidate: candidate.mean, reverse=maximize)


def _fresh_seeds(trials: Sequence[FrozenTrial], shared: int, count: int) -> list[int]:
    """Seeds above that of every trial: the one they share, or those that were searched."""
    drawn = [trial.params["seed"] for trial in trials if "seed" in trial.params]
    first = 1 + max(drawn, default=shared)
    return [seed % 2**32 for seed in range(first, first + count)]


def _points(trial: FrozenTrial, composer: Composer, seeds: Sequence[int]) -> list[Point]:
    return [composer.point(trial.params, f"seed={seed}", "tracking.save_model=all") for seed in seeds]


def run_points(jobs: SweepJobs, points: Sequence[Point]) -> dict[str, float]:
    """Run each point, or reuse it, and return its objective by its fingerprint; none for one that failed."""
    waiting = list(points)
    running: dict[int, Point] = {}
    values: dict[str, float] = {}
    while waiting or running:
        while waiting and jobs.has_room:
            point = waiting.pop(0)
            if (known := jobs.reuse(point)) is not None:
                values[point.fingerprint] = known[0]
            else:
                running[jobs.start(point)] = point
        if not running and waiting:
            print("confirmation: too many jobs failed (hydra.launcher.on_error, hydra.launcher.max_failures)")
            break
        for number, result in jobs.wait():
            point = running.pop(number)
            if result.status == JobStatus.COMPLETED:
                values[point.fingerprint] = objective_values(result)[0]
            else:
                print(f"confirmation with seed={point.config.seed} failed: {result._return_value}")
    return values


def _print(ranked: Sequence[Candidate], tested: Sequence[float], name: str, seeds: int) -> None:
    table = Table("trial", f"{name} in the search", f"{name} on {seeds} fresh seeds", "test/accuracy", box=SIMPLE_HEAD)
    for place, candidate in enumerate(ranked):
        look = ", ".join(f"{value:.4f}" for value in tested) if place == 0 else ""
        table.add_row(str(candidate.trial.number), f"{candidate.trial.values[0]:.4f}", candidate.spread, look)
    Console(highlight=False, width=120).print(table)


def _log(candidates: Sequence[Candidate], jobs: SweepJobs) -> None:
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["trial", "searched", "seed", "value", "run_id", "overrides"])
    for candidate in candidates:
        trial, words = candidate.trial, " ".join(space.words(candidate.trial.params))
        for point, value in zip(candidate.points, candidate.values, strict=True):
            run_id = jobs.run_id(point.fingerprint)
            lines.writerow([trial.number, trial.values[0], point.config.seed, value, run_id, words])
    jobs.sweep.parent.log_text(text.getvalue(), "confirmation.csv")
    if candidates:
        jobs.sweep.parent.log_metric("confirm/mean", candidates[0].mean)
