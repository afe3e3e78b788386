"""The confirmation of a search: its best configurations on fresh seeds; the winner is tested on still others."""

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
from beans_exp.hpo.study import SharedStudy
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
class Tested:
    """The winner's runs on the test images, whose seeds were drawn after the choice."""

    points: list[Point]
    accuracies: list[float]
    looks: int
    """How many different winners of the study have been tested, this one included."""


@dataclass(frozen=True)
class Confirmation:
    """The candidates, the best by mean validation first, the winner's test, and whether every run completed."""

    ranked: list[Candidate]
    complete: bool
    tested: Tested | None = None


def best_trials(trials: Sequence[FrozenTrial], maximize: bool, count: int) -> list[FrozenTrial]:
    """Return the `count` best completed trials, the best first; of equal ones only the first."""
    done = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    ranked = sorted(done, key=lambda trial: trial.values[0], reverse=maximize)
    distinct: dict[Any, FrozenTrial] = {}
    for trial in ranked:
        distinct.setdefault(trial.user_attrs.get(FINGERPRINT, trial.number), trial)
    return list(distinct.values())[:count]


def confirm(study: SharedStudy, composer: Composer, jobs: SweepJobs, objective: ObjectiveConfig) -> Confirmation:
    """Run the best `confirm.top` trials on `confirm.seeds` fresh seeds, and test the winner on as many others.

    They are ranked by their mean objective on validation. The runs that were chosen by are not tested: the choice
    favors seeds that were lucky. No other configuration is tested.
    """
    trials, shared = study.counted, composer.shared_config()
    wanted = shared.confirm
    if wanted.top == 0:
        return Confirmation([], complete=True)
    if len(objective.metrics) > 1:
        log.info("confirmation skipped: several objectives have no single best configuration")
        return Confirmation([], complete=True)
    maximize = objective.directions[0] == "maximize"
    best = best_trials(trials, maximize, wanted.top)
    fresh = _fresh_seeds(trials, shared.seed, 2 * wanted.seeds)
    points = {trial.number: _points(trial, composer, fresh[: wanted.seeds]) for trial in best}
    log.info("confirmation: %d configurations, %d fresh seeds each", len(points), wanted.seeds)
    values = run_points(jobs, [point for seeds in points.values() for point in seeds])
    ranked = _ranked(trials, points, values, maximize)
    complete = len(values) == wanted.seeds * len(points)
    tested = _test(ranked[0].trial, study, composer, jobs, fresh[wanted.seeds :]) if ranked else None
    _print(ranked, tested, objective.metrics[0], wanted.seeds)
    _log(ranked, tested, jobs)
    return Confirmation(ranked, complete and (tested is None or len(tested.accuracies) == wanted.seeds), tested)


def _test(winner: FrozenTrial, study: SharedStudy, composer: Composer, jobs: SweepJobs, seeds: Sequence[int]) -> Tested:
    """Train and test the winner with `seeds`, and count the look at the test images before it is taken."""
    looks = study.count_look(winner)
    points = [composer.tested(point) for point in _points(winner, composer, seeds)]
    run_points(jobs, points)
    accuracies = [jobs.metric(point, "test/accuracy") for point in points]
    return Tested(points, [value for value in accuracies if value is not None], looks)


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


def _print(ranked: Sequence[Candidate], tested: Tested | None, name: str, seeds: int) -> None:
    test = f"test/accuracy on {seeds} others"
    table = Table("trial", f"{name} in the search", f"{name} on {seeds} fresh seeds", test, box=SIMPLE_HEAD)
    for rank, candidate in enumerate(ranked):
        tests = ", ".join(f"{value:.4f}" for value in tested.accuracies) if tested and rank == 0 else ""
        table.add_row(str(candidate.trial.number), f"{candidate.trial.values[0]:.4f}", candidate.spread, tests)
    open_console().print(table)


def _log(candidates: Sequence[Candidate], tested: Tested | None, jobs: SweepJobs) -> None:
    header = ["trial", "searched", "seed", "value", "run_id", "overrides", "test_accuracy"]
    rows = [row for candidate in candidates for row in _rows(candidate, jobs)]
    if tested:
        rows += _tested_rows(candidates[0].trial, tested, jobs)
    jobs.sweep.parent.log_text(csv_text(header, rows), "confirmation.csv")
    if candidates:
        jobs.sweep.parent.log_metric("confirm/mean", candidates[0].mean)


def _rows(candidate: Candidate, jobs: SweepJobs) -> Iterator[list[object]]:
    for point, value in zip(candidate.points, candidate.values, strict=True):
        yield _row(candidate.trial, point, value, "", jobs)


def _tested_rows(winner: FrozenTrial, tested: Tested, jobs: SweepJobs) -> Iterator[list[object]]:
    """Yield the runs that were tested; no choice was made by their `value`."""
    for point in tested.points:
        value, accuracy = (jobs.metric(point, name) for name in (point.config.objective.metrics[0], "test/accuracy"))
        yield _row(winner, point, value, accuracy, jobs)


def _row(trial: FrozenTrial, point: Point, value: object, accuracy: object, jobs: SweepJobs) -> list[object]:
    overrides = " ".join(space.to_overrides(trial.params))
    run_id = jobs.run_id(point.fingerprint)
    return [trial.number, trial.values[0], point.config.seed, value, run_id, overrides, accuracy]
