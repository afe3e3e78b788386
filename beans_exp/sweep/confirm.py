"""The confirmation of a search: its best configurations on fresh seeds, ranked by validation; the winner is tested."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

from hydra.core.utils import JobStatus
from optuna.trial import FrozenTrial, TrialState
from rich.box import SIMPLE_HEAD
from rich.table import Table

from beans_exp.files import csv_text
from beans_exp.hpo import space
from beans_exp.hpo.trial_attrs import FINGERPRINT
from beans_exp.schema import ObjectiveConfig
from beans_exp.sweep.composer import Composer
from beans_exp.sweep.point import Point
from beans_exp.sweep.sweep_jobs import SweepJobs, objective_values
from beans_exp.terminal import open_console

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Candidate:
    """A trial's configuration on fresh seeds: the point and the objective of each seed."""

    trial: FrozenTrial
    points: list[Point]
    values: list[float]

    @property
    def mean(self) -> float:
        return mean(self.values)

    @property
    def spread(self) -> str:
        """The mean over the seeds and the standard deviation, as text."""
        return f"{self.mean:.4f} ± {stdev(self.values):.4f}" if len(self.values) > 1 else f"{self.mean:.4f}"


@dataclass(frozen=True)
class Confirmation:
    """The winner by mean validation, if any, and whether every run completed."""

    winner: FrozenTrial | None
    complete: bool


def best_trials(trials: Sequence[FrozenTrial], maximize: bool, count: int) -> list[FrozenTrial]:
    """Return the `count` best completed trials, the best first; of equal ones only the first."""
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

    They are ranked by their mean objective on validation. No other run is tested: the test split is used once.
    """
    shared = composer.shared_config()
    wanted = shared.confirm
    if wanted.top == 0:
        return Confirmation(None, complete=True)
    if len(objective.metrics) > 1:
        log.info("confirmation skipped: several objectives have no single best configuration")
        return Confirmation(None, complete=True)
    maximize = objective.directions[0] == "maximize"
    best = best_trials(trials, maximize, wanted.top)
    fresh = _fresh_seeds(trials, shared.seed, wanted.seeds)
    points = {trial.number: _points(trial, composer, fresh) for trial in best}
    log.info("confirmation: %d configurations, %d fresh seeds each", len(points), wanted.seeds)
    values = run_points(jobs, [point for seeds in points.values() for point in seeds])
    ranked = _ranked(trials, points, values, maximize)
    tests = [composer.tested(point) for point in ranked[0].points] if ranked else []
    tested = run_points(jobs, tests)
    accuracies = [jobs.metric(point, "test/accuracy") for point in tests]
    _print(ranked, [value for value in accuracies if value is not None], objective.metrics[0], wanted.seeds)
    _log(ranked, jobs)
    complete = len(values) == wanted.seeds * len(points) and len(tested) == len(tests)
    return Confirmation(ranked[0].trial if ranked else None, complete)


def _ranked(
    trials: Sequence[FrozenTrial], points: dict[int, list[Point]], values: dict[str, float], maximize: bool
) -> list[Candidate]:
    """Return the trials whose runs all completed, the best mean first."""
    candidates = [
        Candidate(trial, points[trial.number], [values[point.fingerprint] for point in points[trial.number]])
        for trial in trials
        if all(point.fingerprint in values for point in points.get(trial.number, [])) and trial.number in points
    ]
    return sorted(candidates, key=lambda candidate: candidate.mean, reverse=maximize)


def _fresh_seeds(trials: Sequence[FrozenTrial], shared: int, count: int) -> list[int]:
    """Return seeds above that of every trial: the one they share, or those that were searched."""
    searched = [trial.params["seed"] for trial in trials if "seed" in trial.params]
    first = 1 + max(searched, default=shared)
    return [seed % 2**32 for seed in range(first, first + count)]


def _points(trial: FrozenTrial, composer: Composer, seeds: Sequence[int]) -> list[Point]:
    return [composer.point(trial.params, f"seed={seed}", "tracking.save_model=all") for seed in seeds]


def run_points(jobs: SweepJobs, points: Sequence[Point]) -> dict[str, float]:
    """Run or reuse each point, and return the objectives by fingerprint, without those of failed runs."""
    waiting = list(points)
    running: dict[int, Point] = {}
    values: dict[str, float] = {}
    while waiting or running:
        while waiting and jobs.has_room:
            point = waiting.pop(0)
            if (reused := jobs.reuse(point)) is not None:
                values[point.fingerprint] = reused[0]
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
    for rank, candidate in enumerate(ranked):
        tests = ", ".join(f"{value:.4f}" for value in tested) if rank == 0 else ""
        table.add_row(str(candidate.trial.number), f"{candidate.trial.values[0]:.4f}", candidate.spread, tests)
    open_console().print(table)


def _log(candidates: Sequence[Candidate], jobs: SweepJobs) -> None:
    header = ["trial", "searched", "seed", "value", "run_id", "overrides"]
    rows = [row for candidate in candidates for row in _rows(candidate, jobs)]
    jobs.sweep.parent.log_text(csv_text(header, rows), "confirmation.csv")
    if candidates:
        jobs.sweep.parent.log_metric("confirm/mean", candidates[0].mean)


def _rows(candidate: Candidate, jobs: SweepJobs) -> Iterator[list[object]]:
    trial, overrides = candidate.trial, " ".join(space.to_overrides(candidate.trial.params))
    for point, value in zip(candidate.points, candidate.values, strict=True):
        yield [trial.number, trial.values[0], point.config.seed, value, jobs.run_id(point.fingerprint), overrides]
