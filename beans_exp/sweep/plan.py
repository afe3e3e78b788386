"""From the points of a grid to the jobs that differ: options that cannot act are dropped, equal points run once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from beans_exp.data import Source, source
from beans_exp.data.source import text_digest
from beans_exp.errors import ConfigError
from beans_exp.fingerprint import fingerprint
from beans_exp.precision import resolve_precision
from beans_exp.schema import Config, ObjectiveConfig, SweepConfig, TrackingConfig, inert_options, reduce


@dataclass(frozen=True)
class Point:
    """What was asked for: the overrides of one combination, and the configuration that they compose to."""

    overrides: list[str]
    config: Config


@dataclass(frozen=True)
class Job:
    """What is run: a point, reduced to what it means, and labelled by what sets it apart from the others."""

    overrides: list[str]
    config: Config
    fingerprint: str
    label: str
    precision_was_auto: bool


@dataclass(frozen=True)
class Plan:
    """The distinct jobs of a sweep, in the order in which they were asked for."""

    jobs: list[Job]
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

    def depths(self, job: Job) -> list[int]:
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


def plan_grid(points: Sequence[Point]) -> Plan:
    """Return the jobs that `points` mean.

    Raises ConfigError for an option that acts at no point and for a point that cannot be run, DataError for a data
    set that is missing.
    """
    if not points:
        raise ConfigError("the grid has no point: no option matches what it asks for")
    if any(point.config.sweep != SweepConfig() or point.config.features.blocks for point in points):
        raise ConfigError("sweep.* and features.blocks are written by the sweeper, not by hand. Leave them out")
    for key in ("tracking", "objective", "plan"):
        _require_one(points, key)
    _require_action(points)
    sources: dict[str, Source] = {}
    jobs: dict[str, Job] = {}
    dropped: list[str] = []
    for point in points:
        config, inert = reduce(point.config)
        dropped += [str(option) for option in inert]
        resolved = resolve_precision(config)
        key = repr(config.data)
        sources[key] = sources.get(key) or source(config.data)
        mark = fingerprint(resolved, sources[key])
        jobs.setdefault(mark, Job(point.overrides, resolved, mark, _label(point, points), resolved != config))
    return Plan(list(jobs.values()), len(points), list(dict.fromkeys(dropped)), points[0].config.plan)


def _require_one(points: Sequence[Point], key: str) -> None:
    """Raise ConfigError where a grid varies what belongs to the sweep as a whole."""
    for point in points:
        if getattr(point.config, key) != getattr(points[0].config, key):
            raise ConfigError(f"{key} differs between the points of the grid: a sweep has one. Start a sweep for each")


def _label(point: Point, points: Sequence[Point]) -> str:
    varied = [word for word in point.overrides if any(word not in other.overrides for other in points)]
    return " ".join(varied or point.overrides) or "defaults"


def _require_action(points: Sequence[Point]) -> None:
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
