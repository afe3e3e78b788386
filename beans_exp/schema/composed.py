"""From the configuration that Hydra composed to the typed `Config`: unknown keys and broken rules stop here."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from typing import Any, cast

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from beans_exp.errors import ConfigError
from beans_exp.schema.groups import Config
from beans_exp.schema.rules import without_password
from beans_exp.schema.shipped import CONF

SWEEPER_KEYS = ("sweep.", "tracking.uri=", "features.blocks=")
"""Overrides that a sweeper adds to the user's."""

ALIASES = {"regularizer": "reg"}
"""Alternative names of groups on the command line."""


def checked_options(words: Sequence[str]) -> list[str]:
    """Return the command line's `words` for Hydra to parse.

    Aliases become the groups' names; `study=null` and `experiment=null`, the defaults, are dropped.

    Raises ConfigError for a password in an address, before Hydra writes the words to disk, and for `null` as an option
    of another group, which would end in a traceback of Hydra's, and for `report`, whose files are not options.
    """
    kept = [_without_alias(word) for word in words if word not in ("study=null", "experiment=null")]
    for word in kept:
        group, _, options = word.partition("=")
        without_password(group, options.strip("'\""))
        if group.lstrip("+~") == "report":
            raise ConfigError(f"{word}: must be left out: only python -m beans_exp.report reads conf/report")
        if group and "null" in options.split(",") and (CONF / group).is_dir():
            known = ", ".join(sorted(file.stem for file in (CONF / group).glob("*.yaml")))
            raise ConfigError(f"{word}: must be one of {known}; leave it out for the default")
    return kept


def _without_alias(word: str) -> str:
    """`regularizer=l2` as `reg=l2`, `regularizer.l2=0.1` as `reg.l2=0.1`."""
    prefix, name, rest = re.fullmatch(r"([+~]*)(\w*)(.*)", word, flags=re.DOTALL).groups()  # type: ignore[union-attr]
    return f"{prefix}{ALIASES[name]}{rest}" if name in ALIASES and rest[:1] in ("=", ".", "@", "") else word


def user_overrides(overrides: Iterable[str]) -> list[str]:
    """Return the overrides that the user chose, without those of the sweeper."""
    return [word for word in overrides if not word.startswith(SWEEPER_KEYS)]


def register() -> None:
    """Register the schema with Hydra, which then checks keys and types while it composes.

    Only the signature of a model's function knows the keys of `model.options`, and `ModelConfig` checks them.
    """
    schema = OmegaConf.structured(Config)
    OmegaConf.set_struct(schema.model.options, False)
    ConfigStore.instance().store(name="schema", node=schema)


def to_config(composed: DictConfig) -> Config:
    """Return the typed configuration of one run.

    Raises ConfigError for keys that are not in the schema (`+typo=1`), keys that were removed (`~reg`), values that
    cannot be resolved, and values that break a rule of their group.
    """
    _require_groups(composed)
    plain = {key: composed._get_node(key) for key in composed if key != "hydra"}
    typed = OmegaConf.structured(Config)
    try:
        _require_keys(plain, Config, "")
        for key, node in plain.items():
            typed[key] = node
        return cast(Config, OmegaConf.to_object(typed))
    except OmegaConfBaseException as error:
        raise ConfigError(str(error).splitlines()[0]) from error


def given_overrides(composed: DictConfig, kind: str = "task") -> list[str]:
    """Return the overrides of a command, or with `kind` those of Hydra's own keys, with interpolations as written."""
    node = OmegaConf.select(composed, f"hydra.overrides.{kind}")
    return [] if node is None else cast(list[str], OmegaConf.to_container(node, resolve=False))


def _require_groups(composed: DictConfig) -> None:
    """Raise ConfigError where `~group`, or a list of options, removed a group: its defaults would silently apply."""
    for word in given_overrides(composed):
        group, _, options = word.partition("=")
        if options.startswith("[") and (CONF / group.lstrip("+")).is_dir():
            plain = re.sub("[][' ]", "", options)
            way_out = f"To run several, write them without brackets: {group}={plain}"
            raise ConfigError(f"{word}: must be one option of {group}, not a list. {way_out}")
    choices = OmegaConf.select(composed, "hydra.runtime.choices")
    for item in fields(Config) if choices is not None else ():
        if (CONF / item.name).is_dir() and item.name not in choices:
            raise _removed(item.name)


def _removed(key: str) -> ConfigError:
    return ConfigError(f"{key} was removed: every run needs it. Leave ~{key} out")


def _require_keys(node: Any, schema: type, prefix: str) -> None:
    known = {item.name: item for item in fields(schema)}
    for key in node:
        if key not in known:
            raise ConfigError(unknown_key(f"{prefix}{key}", key, list(known)))
    for name, item in known.items():
        if name not in node:
            raise _removed(f"{prefix}{name}")
        child = node[name]
        if isinstance(item.type, type) and is_dataclass(item.type):
            if not isinstance(child, DictConfig) or child._is_none():
                raise ConfigError(f"{prefix}{name} has no value: every run needs it. Leave {prefix}{name}=null out")
            _require_keys(child, item.type, f"{prefix}{name}.")


def unknown_key(full_key: str, key: str, known: list[str]) -> str:
    """Return the message about a key that is not among the `known` ones of its node."""
    close = get_close_matches(key, known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
    return f"{full_key} is not a key of the configuration; {hint}"
