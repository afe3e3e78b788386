"""The names of options as labels of a run: they follow its values, not the files that it was composed from."""

from dataclasses import asdict, replace
from functools import cache
from typing import Any

import yaml

from beans_exp.schema.groups import Config, FinetuneConfig, KernelConfig, RegConfig, TrainerConfig
from beans_exp.schema.rules import shown
from beans_exp.schema.shipped import CONF

LABELED: dict[str, type[Any]] = {
    "reg": RegConfig,
    "kernel": KernelConfig,
    "finetune": FinetuneConfig,
    "trainer": TrainerConfig,
}
"""The groups whose `name` is a label only."""


def labeled(config: Config) -> Config:
    """Return `config` with the name of the option that has its values in each of these groups, or else the values.

    An option of the user's own keeps its name: its values are in a file of theirs.
    """
    return replace(config, **{group: _labeled(group, getattr(config, group)) for group in LABELED})


def _labeled(group: str, values: Any) -> Any:
    options = _options(group)
    if values.name not in options:
        return values
    equal = [name for name, option in options.items() if replace(option, name=values.name) == values]
    if values.name in equal:
        return values
    return replace(values, name=equal[0] if equal else _changes(values))


@cache
def _options(group: str) -> dict[str, Any]:
    """The shipped options of `group`, by name."""
    files = sorted((CONF / group).glob("*.yaml"))
    return {file.stem: LABELED[group](**yaml.safe_load(file.read_text(encoding="utf-8"))) for file in files}


def _changes(values: Any) -> str:
    """The keys that differ from their defaults, as overrides."""
    defaults = asdict(type(values)())
    changed = {key: value for key, value in asdict(values).items() if key != "name" and value != defaults[key]}
    return ",".join(f"{key}={shown(value)}" for key, value in changed.items())
