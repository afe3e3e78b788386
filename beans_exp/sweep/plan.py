"""From the points of a grid to its distinct jobs: options without effect are dropped, equal points run once."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from beans_exp.data.source import text_digest
from beans_exp.errors import ConfigError
from beans_exp.schema import Config, ObjectiveConfig, TrackingConfig, inert_options
from beans_exp.sweep.point import Point, Points


@dataclass(frozen=True)
class GridPoint:
    """A combination of the grid: its overrides, and the configuration that they compose to."""

    overrides: list[str]
    config: Config


@dataclass(frozen=True)
class PlannedJob:
    """A job of the plan, labeled by the overrides that set it apart from the others."""

    point: Point
    label: str
    merged: int = 1
    """How many points of the grid this job runs."""

    @property
    def config(self) -> Config:
        return self.point.config

    @property
    def fingerprint(self) -> str:
        return self.point.fingerprint


@dataclass(frozen=True)
class Plan:
    """The distinct jobs of a sweep, in the order of the grid."""

    jobs: list[PlannedJob]
    requested: int
    dropped: list[str]
    """Why options were dropped, a sentence each."""
    preview: bool
    """Whether the plan is only printed (`plan=true`)."""

    @property
    def tracking(self) -> TrackingConfig:
        return self.jobs[0].config.tracking

    @property
    def objective(self) -> ObjectiveConfig:
        return self.jobs[0].config.objective

    def depths(self, job: PlannedJob) -> list[int]:
        """Return the numbers of unfrozen blocks in jobs on the same base and data; 0 if a stage unfreezes none."""
        alike = [other.config for other in self.jobs if other.config.model == job.config.model]
        alike = [config for config in alike if config.data == job.config.data]
        heads = {0 for config in alike if config.trainer.epochs}
        return sorted(heads | {config.finetune.blocks for config in alike if config.finetune.blocks})

    @property
    def id(self) -> str:
        """Equal for equal sets of jobs in the same experiment: the same command finds its sweep again."""
        fingerprints = sorted(job.fingerprint for job in self.jobs)
        return text_digest((fingerprints, self.tracking.experiment, "grid"))[:16]


def plan_grid(grid: Sequence[GridPoint]) -> Plan:
    """Return the distinct jobs of `grid`.

    Raises ConfigError for an option that has no effect at any point and for a point that cannot be run, DataError for
    a missing data set.
    """
    if not grid:
        raise ConfigError("the grid is empty: no option matches its overrides")
    for key in ("tracking", "objective", "plan"):
        _require_one(grid, key)
    resolver = Points()
    points = [resolver.resolve(combination.overrides, combination.config) for combination in grid]
    _require_effect(grid)
    counts = Counter(point.fingerprint for point in points)
    jobs: dict[str, PlannedJob] = {}
    dropped: list[str] = []
    for combination, point in zip(grid, points, strict=True):
        dropped += [str(option) for option in point.inert]
        jobs.setdefault(point.fingerprint, PlannedJob(point, _label(combination, grid), counts[point.fingerprint]))
    return Plan(list(jobs.values()), len(grid), list(dict.fromkeys(dropped)), grid[0].config.plan)


def _require_one(grid: Sequence[GridPoint], key: str) -> None:
    """Raise ConfigError where a grid varies a key of the sweep as a whole."""
    for point in grid:
        if getattr(point.config, key) != getattr(grid[0].config, key):
            raise ConfigError(f"{key} differs between the points of the grid: a sweep has one. Start a sweep per value")


def _label(point: GridPoint, grid: Sequence[GridPoint]) -> str:
    """Return the overrides that vary, and those that change a key of an option that varies."""
    varied = [override for override in point.overrides if any(override not in other.overrides for other in grid)]
    groups = tuple(f"{override.partition('=')[0].lstrip('+')}." for override in varied)
    kept = [override for override in point.overrides if override in varied or override.lstrip("+").startswith(groups)]
    return " ".join(kept or point.overrides) or "defaults"


def _require_effect(grid: Sequence[GridPoint]) -> None:
    """Raise ConfigError where an option, at the value it was given, has no effect at any point of the grid."""
    inert_at = [{option.key: option for option in inert_options(point.config)} for point in grid]
    for option in (option for inert in inert_at for option in inert.values()):
        acts = (
            option.key not in inert and _value(point.config, option.key) == option.value
            for point, inert in zip(grid, inert_at, strict=True)
        )
        if not any(acts):
            raise ConfigError(f"{option}; no point of the grid uses it. Leave it out")


def _value(config: Config, key: str) -> Any:
    group, name = key.split(".", 1)
    option = name.removeprefix("options.")
    return config.model.options.get(option) if option != name else getattr(getattr(config, group), name)
