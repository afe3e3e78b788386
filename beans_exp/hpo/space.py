"""Translate between Hydra and Optuna: overrides to a search space, and a trial's parameters to overrides."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    ChoiceSweep,
    Glob,
    IntervalSweep,
    Override,
    Quote,
    QuotedString,
    RangeSweep,
    Sweep,
    Transformer,
)
from hydra.errors import HydraException, OverrideParseException
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from beans_exp.errors import ConfigError
from beans_exp.schema.rules import broken, shown


def parse_overrides(
    params: Mapping[str, Any] | None, arguments: Sequence[str], loader: ConfigLoader | None
) -> list[Override]:
    """Return the overrides of `hydra.sweeper.params` and of the command line, which replaces them key by key.

    `loader` lists the options that a glob may match. Raises ConfigError for an override outside of Hydra's grammar.
    """
    parser = OverridesParser.create(config_loader=loader)
    try:
        defaults = parser.parse_overrides([f"{key}={shown(value)}" for key, value in (params or {}).items()])
        given = parser.parse_overrides(list(arguments))
    except OverrideParseException as error:
        reasons = [line for line in str(error).splitlines() if not line.startswith(("Error parsing", "See https"))]
        raise ConfigError(f"{error.override} is not valid in Hydra's override grammar: {' '.join(reasons)}") from error
    replaced = {_name(override) for override in given}
    return [*(override for override in defaults if _name(override) not in replaced), *given]


def split_overrides(overrides: Sequence[Override]) -> tuple[list[str], dict[str, BaseDistribution]]:
    """Return the overrides that all trials share, unchanged, and the search space by key.

    A key keeps its prefix and package (`+x`, `model@other`). A range excludes its stop, as Hydra's does; an interval of
    whole numbers, `int(interval(1,12))`, includes both ends. Raises ConfigError for an empty range or a contradiction.
    """
    _require_one_meaning(overrides)
    fixed = [override.input_line or "" for override in overrides if not override.is_sweep_override()]
    swept = [override for override in overrides if override.is_sweep_override()]
    return fixed, {override.get_key_element(): _distribution(override) for override in swept}


def to_overrides(params: Mapping[str, Any]) -> list[str]:
    """Return overrides that Hydra parses to the values in `params`, whose texts `split_overrides` made."""
    return [f"{key}={shown(value)}" for key, value in params.items()]


def describe(space: Mapping[str, BaseDistribution]) -> dict[str, str]:
    """Return a short text for each key, equal for equal distributions only, to be stored with a study."""
    return {key: _described(distribution) for key, distribution in space.items()}


def differences(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """Return a line for each key whose description differs between `old` and `new`."""
    absent = "not searched"
    return [
        f"{key}: {old.get(key, absent)} before, {new.get(key, absent)} now"
        for key in sorted({*old, *new})
        if old.get(key) != new.get(key)
    ]


def grid(space: Mapping[str, BaseDistribution]) -> dict[str, list[Any]]:
    """Return every value of each key; raises ConfigError for an interval of floats, which has infinitely many."""
    return {key: _values(key, distribution) for key, distribution in space.items()}


def end_values(distribution: BaseDistribution) -> list[Any]:
    """Return every choice, or the lowest and the highest number."""
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    return [distribution.low, distribution.high]


def _name(override: Override) -> tuple[str, str | None]:
    return override.key_or_group, override.package


def _require_one_meaning(overrides: Sequence[Override]) -> None:
    """Raise ConfigError for a searched key that is given twice; of fixed overrides the last one counts, as in Hydra."""
    seen: dict[tuple[str, str | None], Override] = {}
    for override in overrides:
        other = seen.setdefault(_name(override), override)
        if other is not override and (other.is_sweep_override() or override.is_sweep_override()):
            key = override.get_key_element()
            raise ConfigError(
                f"{other.input_line} and {override.input_line} contradict each other: {key} may be given only once. "
                "Leave one out"
            )


def _distribution(override: Override) -> BaseDistribution:
    sweep = override.value()
    tags = sweep.tags if isinstance(sweep, Sweep) else set()
    if tags - {"log"}:
        raise _broken(override, "tagged log or not at all: other tags have no meaning in a search")
    if isinstance(sweep, IntervalSweep):
        return _interval(override, sweep)
    if isinstance(sweep, RangeSweep):
        return _range(override, sweep)
    if tags:
        raise _broken(override, "without tag(log): a choice has no scale. Write tag(log,interval(low,high))")
    return _choice(override, sweep.list if isinstance(sweep, ChoiceSweep) else _matches(override, sweep))


def _broken(override: Override, rule: str) -> ConfigError:
    return broken(override.get_key_element(), override.get_value_string(), rule)


def _interval(override: Override, sweep: IntervalSweep) -> BaseDistribution:
    low, high = sweep.start, sweep.end
    assert low is not None and high is not None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        key = override.get_key_element()
        raise _broken(override, f"an interval from a finite number to a larger one. Write {key}=value for one value")
    log = _is_log(override, sweep, low)
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log=log)
    return FloatDistribution(low, high, log=log)


def _range(override: Override, sweep: RangeSweep) -> BaseDistribution:
    """Computed in decimals: in binary floats `range(0,2.1,0.7)` would include its stop, 2.1."""
    numbers = (sweep.start, sweep.stop, sweep.step)
    start, stop, step = (Decimal(str(number)) for number in numbers)
    if not all(number.is_finite() for number in (start, stop, step)) or step == 0:
        raise _broken(override, "a range of finite numbers whose step is not 0")
    count = math.ceil((stop - start) / step)
    if count < 1:
        raise _broken(override, "a range with at least one value: the stop is excluded. Write range(start,stop,step)")
    low, high = sorted((start, start + (count - 1) * step))
    log = _is_log(override, sweep, low)
    whole = all(isinstance(number, int) for number in numbers)
    if log and not (whole and abs(step) == 1):
        raise _broken(override, "without a step if it has tag(log). Write tag(log,interval(low,high))")
    if whole:
        return IntDistribution(int(low), int(high), log=log, step=int(abs(step)))
    return FloatDistribution(float(low), float(high), step=float(abs(step)))


def _is_log(override: Override, sweep: Sweep, low: float | Decimal) -> bool:
    log = "log" in sweep.tags
    if log and low <= 0:
        raise _broken(override, "above 0 with tag(log): smaller numbers have no logarithm. Raise the low end")
    return log


def _matches(override: Override, pattern: Any) -> list[str]:
    """Return the options of a group that a glob matches."""
    assert isinstance(pattern, Glob) and override.config_loader is not None
    known = override.config_loader.get_group_options(override.key_or_group, results_filter=ObjectType.CONFIG)
    if not pattern.filter(known):
        options = f"it has {', '.join(known)}" if known else "it is not a group, or has no options"
        raise _broken(override, f"a pattern that matches an option of {override.key_or_group}; {options}")
    return pattern.filter(known)


def _choice(override: Override, values: Iterable[Any]) -> CategoricalDistribution:
    """Keep the order of `values` and ignore a shuffle: to Optuna another order is another space."""
    items = list(values)
    if any(isinstance(item, Sweep | Glob) for item in items):
        raise _broken(override, "a list of plain values: choice, range, interval and glob cannot be nested")
    categories = [_category(item) for item in items]
    if len(set(categories)) < len(categories):
        raise _broken(override, "a list without repetitions (1, 1.0 and true are one value to Optuna)")
    return CategoricalDistribution(categories)


def _category(value: Any) -> bool | int | float | str | None:
    """Return `value` if Optuna can store it, else its text on the command line."""
    if value is None or isinstance(value, bool | int | float):
        return value
    text = Transformer.str(value)
    if isinstance(value, str) and not _parses_to(text, value):  # `choice` strips the quotes of "5" and "it's"
        return QuotedString(value, Quote.single).with_quotes()
    return text


def _parses_to(text: str, value: str) -> bool:
    try:
        return bool(OverridesParser.create().parse_rule(text, "value") == value)
    except HydraException:
        return False


def _described(distribution: BaseDistribution) -> str:
    if isinstance(distribution, CategoricalDistribution):
        return f"choice {json.dumps(distribution.choices)}"  # JSON distinguishes "1" from 1
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    kind = "int" if isinstance(distribution, IntDistribution) else "float"
    step = "" if distribution.step is None or (kind, distribution.step) == ("int", 1) else f" step {distribution.step}"
    return f"{kind} {distribution.low}..{distribution.high}{step}{' log' if distribution.log else ''}"


def _values(key: str, distribution: BaseDistribution) -> list[Any]:
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    if isinstance(distribution, IntDistribution):
        return list(range(distribution.low, distribution.high + 1, distribution.step))
    assert isinstance(distribution, FloatDistribution)
    if distribution.step is None:
        rule = "a choice or a range if every value is tried. Write range(start,stop,step), or set another sampler"
        raise broken(key, f"interval({distribution.low},{distribution.high})", rule)
    low, high, step = (Decimal(str(number)) for number in (distribution.low, distribution.high, distribution.step))
    return [float(low + index * step) for index in range(int((high - low) / step) + 1)]
