"""A point of a search: what parameters mean once they are composed, reduced and resolved."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hydra.types import HydraContext
from omegaconf import DictConfig

from beans_exp.data import Source, source
from beans_exp.errors import ConfigError
from beans_exp.fingerprint import fingerprint
from beans_exp.precision import resolve_precision
from beans_exp.schema import Config, ConfirmConfig, Inert, SweepConfig, reduce, to_config
from beans_exp.schema.rules import shown
from beans_exp.sweep import space

OF_A_SWEEP = ("hydra.", "hydra/", "confirm.", "tracking.save_model=best", "experiment=", "plan=")
"""Words that mean nothing, or are an error, in a single run."""


@dataclass(frozen=True)
class Point:
    """What a trial's parameters mean: the words that compose it, its reduced configuration, and what it is."""

    overrides: list[str]
    config: Config
    fingerprint: str
    inert: list[Inert]
    """The options that were asked for and cannot act."""


class Composer:
    """From parameters to points."""

    def __init__(self, hydra_context: HydraContext, config: DictConfig, fixed: Sequence[str]) -> None:
        self.loader = hydra_context.config_loader
        self.config = config
        self.fixed = list(fixed)
        self.sources: dict[str, Source] = {}

    def point(self, params: Mapping[str, Any], *more: str) -> Point:
        """Compose `params`, and the words in `more`, without a test; raises ConfigError for what cannot be run."""
        return self._compose([*self.fixed, *space.words(params), *more, "trainer.test=false"])

    def tested(self, point: Point) -> Point:
        """The same run, which is tested, too."""
        return self._compose([*point.overrides[:-1], "trainer.test=true"])

    def _compose(self, words: list[str]) -> Point:
        given = to_config(self.loader.load_sweep_config(self.config, words))
        if given.sweep != SweepConfig() or given.features.blocks:
            raise ConfigError("sweep.* and features.blocks are written by the sweeper, not by hand. Leave them out")
        reduced, inert = reduce(replace(given, confirm=ConfirmConfig()))
        config = replace(resolve_precision(reduced), confirm=given.confirm)
        key = repr(config.data)
        self.sources[key] = self.sources.get(key) or source(config.data)
        return Point(words, config, fingerprint(config, self.sources[key]), inert)

    def single_run(self, params: Mapping[str, Any]) -> list[str]:
        """The words of a single run that is the same as the trial with `params`, and is tested."""
        inert = self.point(params).inert
        fixed = [word for word in self.fixed if not word.lstrip("+~").startswith(OF_A_SWEEP)]
        return [*fixed, *space.words(params), *(f"{option.key}={shown(option.neutral)}" for option in inert)]
