"""Points of one sweep share its sweeper and launcher: an option that brings its own cannot be one of several."""

from collections.abc import Mapping, Sequence

from omegaconf import DictConfig, OmegaConf

from beans_exp.errors import ConfigError

SHARED = ("hydra.sweeper", "hydra.launcher", "hydra.mode")
SEVERAL = frozenset(",(")
"""Characters of an override with several values."""


def require_one_sweep(config: DictConfig, composed: DictConfig, overrides: Sequence[str]) -> None:
    """Raise ConfigError if the point `composed` from `overrides` asks for another sweep than `config`, the command's.

    Hydra would drop what it asks for without a message.
    """
    for key in SHARED:
        wanted = OmegaConf.select(composed, key)
        if wanted is None or _plain(wanted) == _plain(OmegaConf.select(config, key)):
            continue
        given = dict(word.partition("=")[::2] for word in config.hydra.overrides.task)
        varied = [word for word in overrides if _varies(word.partition("=")[0], given)]
        named = " ".join(varied or overrides)
        raise ConfigError(
            f"{named}: must be the only option of its group: it sets {key}. Start one experiment a command"
        )


def _varies(key: str, given: Mapping[str, str]) -> bool:
    """Whether `key` is a group of which the command, or an experiment file, names several options."""
    return "." not in key and (key not in given or not SEVERAL.isdisjoint(given[key]))


def _plain(node: object) -> object:
    return OmegaConf.to_container(node, resolve=False) if OmegaConf.is_config(node) else node
