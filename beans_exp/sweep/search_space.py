"""The search space, checked before anything is trained: every end of every range can run and has an effect."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.distributions import BaseDistribution

from beans_exp.errors import ConfigError
from beans_exp.hpo import space
from beans_exp.sweep.composer import Composer
from beans_exp.sweep.point import Point


@dataclass(frozen=True)
class CheckedSpace:
    """Facts about the trials, from the composed ends of the search space."""

    first: Point
    """Each parameter at its first value."""
    tunes: bool
    """Whether any trial may tune blocks of a pre-trained base."""


def check_space(composer: Composer, searched: Mapping[str, BaseDistribution]) -> CheckedSpace:
    """Compose every end of every range of `searched`.

    Each parameter is varied while the others are at their first values, and while they are at their last ones; if it
    has no effect there, also beside each further value of each other parameter. Raises ConfigError for an empty space,
    a point that cannot run, and a parameter that has no effect or belongs to the search as a whole.
    """
    if not searched:
        raise ConfigError("the search space is empty. Leave a value open, such as finetune.blocks=range(0,12)")
    ends = {key: space.end_values(distribution) for key, distribution in searched.items()}
    first = composer.point({key: values[0] for key, values in ends.items()})
    tunes = False
    for key in ends:
        variations = _variations(composer, key, ends)
        for points in variations:
            _require_one_sweep(key, first, points)
            tunes = tunes or any(point.config.finetune.blocks > 0 for point in points)
        if not any(map(_differ, variations)):
            reason = next((str(inert) for inert in points[-1].inert), f"{key} has no effect")
            raise ConfigError(f"{reason}; no point of the search uses it. Leave it out")
    return CheckedSpace(first, tunes)


def _variations(composer: Composer, key: str, ends: Mapping[str, Sequence[Any]]) -> list[list[Point]]:
    """Return points that differ only in `key`: at both corners, then elsewhere until `key` shows an effect."""
    first, last = ({other: values[index] for other, values in ends.items()} for index in (0, -1))
    others = [first | {other: value} for other, values in ends.items() if other != key for value in values[1:]]
    variations = [_vary(composer, key, ends[key], corner) for corner in (first, last)]
    while others and not any(map(_differ, variations)):
        variations.append(_vary(composer, key, ends[key], others.pop(0)))
    return variations


def _vary(composer: Composer, key: str, values: Sequence[Any], others: Mapping[str, Any]) -> list[Point]:
    return [composer.point({**others, key: value}) for value in values]


def _differ(points: Sequence[Point]) -> bool:
    return len({point.fingerprint for point in points}) > 1


def _require_one_sweep(key: str, first: Point, points: Sequence[Point]) -> None:
    """Raise ConfigError where `key` varies a setting of the search as a whole."""
    for group in ("tracking", "objective", "plan"):
        if any(getattr(point.config, group) != getattr(first.config, group) for point in points):
            raise ConfigError(f"{key}: {group} cannot be searched: all trials share it. Set one value")
