"""The end of a search: its best configurations on fresh seeds, ranked by validation; the winner's one look at test."""

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

from beans_exp.schema import ObjectiveConfig
from beans_exp.sweep import space
from beans_exp.sweep.composer import Composer
from beans_exp.sweep.jobs import SweepJobs, values_of
from beans_exp.sweep.point import Point
from beans_exp.sweep.study import FINGERPRINT

log = logging.getLogger(__name__)


@dataclass
class Candidate:
    """A configuration of the search that is run again on fresh seeds."""

    trial: FrozenTrial
    points: list[Point]
    values: list[float]
    tested: list[float]

    @property
    def mean(self) -> float:
        return mean(self.values) if self.values else float("nan")

    @property
    def spread(self) -> str:
        """The mean over the seeds and their standard deviation, as text."""
        return f"{self.mean:.4f} ± {stdev(self.values):.4f}" if len(self.values) > 1 else f"{self.mean:.4f}"


def best_trials(trials: Sequence[FrozenTrial], maximize: bool, count: int) -> list[FrozenTrial]:
    """Return the best completed trials, of equal ones the first, the best first."""
    done = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    ranked = sorted(done, key=lambda trial: trial.values[0], reverse=maximize)
    distinct: dict[Any, FrozenTrial] = {}
    for trial in ranked:
        distinct.setdefault(trial.user_attrs.get(FINGERPRINT, trial.number), trial)
    return list(distinct.values())[:count]


def confirm(trials: Sequence[FrozenTrial], composer: Composer, jobs: SweepJobs, objective: ObjectiveConfig) -> bool:
    """Run the best `confirm.top` trials on `confirm.seeds` fresh seeds; test the winner's runs; return whether all ran.

    Ranked by the mean of the objective on validation. No other run is tested: one look, at the winner's.
    """
    wanted = composer.confirmation()
    if wanted.top == 0:
        return True
    if len(objective.metrics) > 1:
        log.info("several objectives have no single best configuration: none is confirmed")
        return True
    maximize = objective.directions[0] == "maximize"
    chosen = best_trials(trials, maximize, wanted.top)
    candidates = [Candidate(trial, _points(trial, composer, wanted.seeds), [], []) for trial in chosen]
    work = [(candidate, point) for candidate in candidates for point in candidate.points]
    log.info("confirmation: %d configurations on %d fresh seeds each", len(candidates), wanted.seeds)
    ok = _run(jobs, work, lambda candidate: candidate.values)
    complete = [candidate for candidate in candidates if len(candidate.values) == len(candidate.points)]
    complete.sort(key=lambda candidate: candidate.mean, reverse=maximize)
    if complete:
        winner = complete[0]
        tests = [(winner, composer.tested(point)) for point in winner.points]
        ok = _run(jobs, tests, lambda _: []) and ok
        winner.tested = [value for _, point in tests if (value := jobs.metric(point, "test/accuracy")) is not None]
    _print(complete, objective.metrics[0], wanted.seeds)
    _log(complete, jobs)
    return ok


def _points(trial: FrozenTrial, composer: Composer, count: int) -> list[Point]:
    first = composer.point(trial.params).config.seed + 1
    seeds = range(first, first + count)
    return [composer.point(trial.params, f"seed={seed % 2**32}", "tracking.save_model=all") for seed in seeds]


def _run(jobs: SweepJobs, work: list[tuple[Candidate, Point]], kept: Any) -> bool:
    """Run every point, or reuse it, and add its value to what `kept` names of its candidate."""
    waiting, well = list(work), True
    running: dict[int, Candidate] = {}
    while waiting or running:
        while waiting and jobs.has_room:
            candidate, point = waiting.pop(0)
            if (values := jobs.finished(point)) is not None:
                kept(candidate).append(values[0])
            else:
                running[jobs.start(point)] = candidate
        if not running and waiting:
            print("confirmation: too many jobs failed (hydra.launcher.on_error, hydra.launcher.max_failures)")
            return False
        for number, result in jobs.ended():
            candidate = running.pop(number)
            if result.status == JobStatus.COMPLETED:
                kept(candidate).append(values_of(result)[0])
            else:
                well = False
                print(f"confirmation of trial {candidate.trial.number} failed: {result._return_value}")
    return well


def _print(candidates: Sequence[Candidate], name: str, seeds: int) -> None:
    table = Table("trial", f"{name} in the search", f"{name} on {seeds} fresh seeds", "test/accuracy", box=SIMPLE_HEAD)
    for candidate in candidates:
        tested = ", ".join(f"{value:.4f}" for value in candidate.tested)
        table.add_row(str(candidate.trial.number), f"{candidate.trial.values[0]:.4f}", candidate.spread, tested)
    Console(highlight=False, width=120).print(table)


def _log(candidates: Sequence[Candidate], jobs: SweepJobs) -> None:
    lines = ["trial,searched,seed,value,run_id,overrides"]
    for candidate in candidates:
        words = " ".join(space.words(candidate.trial.params)).replace('"', '""')
        for point, value in zip(candidate.points, candidate.values, strict=True):
            run_id = jobs.run_of(point.fingerprint)
            lines.append(
                f'{candidate.trial.number},{candidate.trial.values[0]},{point.config.seed},{value},{run_id},"{words}"'
            )
    jobs.place.parent.log_text("\n".join([*lines, ""]), "confirmation.csv")
    if candidates and candidates[0].values:
        jobs.place.parent.log_metric("confirm/mean", candidates[0].mean)
