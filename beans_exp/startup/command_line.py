"""The words of the command line, checked before Hydra parses them, where its own messages would not help."""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_type_hints

import yaml

from beans_exp.errors import ConfigError, is_text
from beans_exp.schema import CONF, Config, checked_options
from beans_exp.schema.composed import unknown_key

SHOWN_ONLY = re.compile(r"--cfg|-c|--info|-i")
COMPLETION = frozenset(("--shell-completion", "-sc"))
MULTIRUN = ("-m", "--multirun")
MODES = (*MULTIRUN, "-r", "--run", "--help", "-h", "--hydra-help", "--version")
"""Options that decide what Hydra does, whatever an experiment says."""
PLAIN = re.compile(r"[A-Za-z_][\w.]*")
"""A key, or a group, without the prefixes and packages of Hydra's grammar."""


def checked_words(words: Sequence[str]) -> list[str]:
    """Return the command line's `words` for Hydra to parse.

    Raises ConfigError, besides what `checked_options` refuses, for text that is not UTF-8, keys that do not exist,
    options of Hydra that exclude each other, and a search by a sweeper that cannot search.
    """
    for word in words:
        if not is_text(word):
            raise ConfigError(f"{word}: must be UTF-8, because it is logged with the run. Rename it")
    if not COMPLETION.isdisjoint(words):
        return list(words)
    kept = checked_options(words)
    _require_one_mode(kept)
    overrides = dict(word.partition("=")[::2] for word in kept if "=" in word and not word.startswith("-"))
    config_dir = _config_dir(kept)
    for key in overrides:
        if PLAIN.fullmatch(key) and not _is_own(key, kept, config_dir):
            _require_known(key)
    experiment = _experiment(overrides, config_dir)
    _require_searching(overrides, experiment)
    return [*kept, *_mode(kept, experiment)]


def _require_one_mode(words: Sequence[str]) -> None:
    """Refuse `-m` beside an option that only shows the configuration, which Hydra answers with a traceback."""
    shown = next((word for word in words if SHOWN_ONLY.fullmatch(word.partition("=")[0])), None)
    multirun = next((word for word in words if word in MULTIRUN), None)
    if shown and multirun:
        raise ConfigError(f"{multirun}: must be left out with {shown}, which shows one configuration and runs nothing")


def _is_own(key: str, words: Sequence[str], config_dir: Path | None) -> bool:
    """Whether `key` is Hydra's, or may be one of the user's: a group, or anything in a primary configuration."""
    own_config = any(word.startswith(("--config-path", "-cp", "--config-name", "-cn")) for word in words)
    is_group = any((folder / key).is_dir() for folder in (CONF, config_dir) if folder is not None)
    return own_config or is_group or key == "hydra" or key.startswith("hydra.")


def _require_known(key: str) -> None:
    """Raise ConfigError for a key that the schema lacks; Hydra would propose `+key`, which is refused, too."""
    names = key.split(".")
    node: type | None = Config
    for depth, name in enumerate(names, start=1):
        if node is None:
            return
        known = [item.name for item in fields(node)]
        if name not in known:
            raise ConfigError(unknown_key(".".join(names[:depth]), name, known))
        node = _class_of(get_type_hints(node)[name])


def _class_of(hint: Any) -> type | None:
    """The dataclass of a field; None for plain values and dictionaries."""
    kinds = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    return next((kind for kind in kinds if isinstance(kind, type) and is_dataclass(kind)), None)


def _experiment(overrides: Mapping[str, str], config_dir: Path | None) -> dict[str, Any]:
    """The content of the experiment's file; empty without one. Hydra reports a file that cannot be read."""
    folders = [folder for folder in (config_dir, CONF) if folder is not None]
    for file in (folder / "experiment" / f"{overrides.get('experiment')}.yaml" for folder in folders):
        with suppress(OSError, UnicodeDecodeError, yaml.YAMLError):
            content = yaml.safe_load(file.read_text(encoding="utf-8"))
            return content if isinstance(content, dict) else {}
    return {}


def _require_searching(overrides: Mapping[str, str], experiment: Mapping[str, Any]) -> None:
    """Raise ConfigError where `hydra/sweeper` replaces the one that an experiment searches with."""
    sweeper = overrides.get("hydra/sweeper")
    if sweeper not in (None, "optuna") and "optuna" in _sweepers(experiment):
        rule = f"optuna with experiment={overrides['experiment']}, which is a search"
        raise ConfigError(f"hydra/sweeper={sweeper}: must be {rule}. Leave it out, or write hydra/sweeper=optuna")


def _sweepers(experiment: Mapping[str, Any]) -> list[str]:
    """The sweepers that an experiment's defaults list names."""
    entries = experiment.get("defaults") or []
    named = [pair for entry in entries if isinstance(entry, dict) for pair in entry.items()]
    return [str(option) for group, option in named if str(group).endswith("/hydra/sweeper")]


def _mode(words: Sequence[str], experiment: Mapping[str, Any]) -> list[str]:
    """The override that starts an experiment as the sweep that its file describes, unless `words` set a mode.

    Hydra 1.3 also reads `hydra.mode` in an experiment's file, Hydra 1.4 refuses it unless it is on the command line.
    """
    hydra = experiment.get("hydra")
    wanted = hydra.get("mode") if isinstance(hydra, dict) else None
    decided = any(SHOWN_ONLY.fullmatch(word.partition("=")[0]) or word in MODES for word in words)
    if wanted is None or decided or any(word.startswith("hydra.mode=") for word in words):
        return []
    return [f"hydra.mode={wanted}"]


def _config_dir(words: Sequence[str]) -> Path | None:
    """The folder of `--config-dir`."""
    for position, word in enumerate(words):
        option, _, value = word.partition("=")
        if option in ("--config-dir", "-cd"):
            return Path(value or "".join(words[position + 1 : position + 2]))
    return None
