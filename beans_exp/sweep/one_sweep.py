"""Points of one sweep share its sweeper and launcher: an option that brings its own cannot be one of several."""

import re
from collections.abc import Mapping, Sequence

from hydra.core.config_loader import ConfigLoader
from hydra.errors import ConfigCompositionException
from omegaconf import DictConfig, OmegaConf

from beans_exp.errors import ConfigError
from beans_exp.schema.composed import given_overrides

SHARED = ("hydra.sweeper", "hydra.launcher", "hydra.mode")
SEVERAL = frozenset(",(")
"""Characters of an override with several values."""
REFUSED = re.compile(r"'(hydra[./]\w+)' must be (?:configured|selected) before the sweep starts")
"""How Hydra 1.4 begins to refuse such a point; Hydra 1.3 drops without a message what it asks for."""


def compose_point(loader: ConfigLoader, config: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """Return the composed point of the sweep `config`; raises ConfigError if it asks for a sweep of its own."""
    try:
        composed = loader.load_sweep_config(config, list(overrides))
    except ConfigCompositionException as error:
        if found := REFUSED.match(str(error)):
            raise _another_sweep(config, overrides, found[1]) from error
        raise
    for key in SHARED:
        wanted = OmegaConf.select(composed, key)
        if wanted is not None and _plain(wanted) != _plain(OmegaConf.select(config, key)):
            raise _another_sweep(config, overrides, key)
    return composed


def _another_sweep(config: DictConfig, overrides: Sequence[str], key: str) -> ConfigError:
    given = dict(word.partition("=")[::2] for word in given_overrides(config))
    varied = [word for word in overrides if _varies(word.partition("=")[0], given)]
    rule = f"the only option of its group, because it sets {key}. Start one experiment a command"
    return ConfigError(f"{' '.join(varied or overrides)}: must be {rule}")


def _varies(key: str, given: Mapping[str, str]) -> bool:
    """Whether `key` is a group of which the command, or an experiment file, names several options."""
    return "." not in key and (key not in given or not SEVERAL.isdisjoint(given[key]))


def _plain(node: object) -> object:
    return OmegaConf.to_container(node, resolve=False) if OmegaConf.is_config(node) else node
