"""From the points of a grid to the jobs that differ: options that cannot act are dropped, equal points run once."""

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
    """What was asked for: the overrides of one combination, and the configuration that they compose to."""

    overrides: list[str]
    config: Config


@dataclass(frozen=True)
class PlannedJob:
    """What is run: a point, labelled by what sets it apart from the others."""

    point: Point
    label: str
    points: int = 1
    """How many points of the grid mean this job."""

    @property
    def config(self) -> Config:
        return self.point.config

    @property
    def fingerprint(self) -> str:
        return self.point.fingerprint


@dataclass(frozen=True)
class Plan:
    """The distinct jobs of a sweep, in the order in which they were asked for."""

    jobs: list[PlannedJob]
    requested: int
    dropped: list[str]
    only: bool
    """Whether the plan is all that was asked for (`plan=true`)."""

    @property
    def tracking(self) -> TrackingConfig:
        return self.jobs[0].config.tracking

    @property
    def objective(self) -> ObjectiveConfig:
        return self.jobs[0].config.objective

    def depths(self, job: PlannedJob) -> list[int]:
        """The numbers of unfrozen blocks, stages without any included, of the jobs on the same base and data."""
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
    """Return the jobs that the points of `grid` mean.

    Raises ConfigError for an option that acts at no point and for a point that cannot be run, DataError for a data
    set that is missing.
    """
    if not grid:
        raise ConfigError("the grid has no point: no option matches what it asks for")
    for key in ("tracking", "objective", "plan"):
        _require_one(grid, key)
    meanings = Points()
    points = [meanings.of(asked.overrides, asked.config) for asked in grid]
    _require_action(grid)
    equal = Counter(point.fingerprint for point in points)
    jobs: dict[str, PlannedJob] = {}
    dropped: list[str] = []
    for asked, point in zip(grid, points, strict=True):
        dropped += [str(option) for option in point.inert]
        jobs.setdefault(point.fingerprint, PlannedJob(point, _label(asked, grid), equal[point.fingerprint]))
    return Plan(list(jobs.values()), len(grid), list(dict.fromkeys(dropped)), grid[0].config.plan)


def _require_one(points: Sequence[GridPoint], key: str) -> None:
    """Raise ConfigError where a grid varies what belongs to the sweep as a whole."""
    for point in points:
        if getattr(point.config, key) != getattr(points[0].config, key):
            raise ConfigError(f"{key} differs between the points of the grid: a sweep has one. Start a sweep for each")


def _label(point: GridPoint, points: Sequence[GridPoint]) -> str:
    varied = [word for word in point.overrides if any(word not in other.overrides for other in points)]
    return " ".join(varied or point.overrides) or "defaults"


def _require_action(points: Sequence[GridPoint]) -> None:
    """Raise ConfigError where an option, with the value it was given, acts at no point of the grid."""
    inert_at = [{option.key: option for option in inert_options(point.config)} for point in points]
    for option in (option for inert in inert_at for option in inert.values()):
        acts = (
            option.key not in inert and _value(point.config, option.key) == option.value
            for point, inert in zip(points, inert_at, strict=True)
        )
        if not any(acts):
            raise ConfigError(f"{option}; it acts at no point of the grid. Leave it out")


def _value(config: Config, key: str) -> Any:
    group, name = key.split(".")
    return getattr(getattr(config, group), name)
