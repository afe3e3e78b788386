"""From the parameters of a trial to the point that they mean, and to the words of a single run."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from hydra.types import HydraContext
from omegaconf import DictConfig

from beans_exp.hpo import space
from beans_exp.schema import Config, ConfirmConfig, to_config
from beans_exp.schema.rules import shown
from beans_exp.sweep.point import Point, Points

OF_A_SWEEP = ("hydra.", "hydra/", "confirm.", "tracking.save_model=best", "plan=")
"""Words that mean nothing, or are an error, in a single run."""


class Composer:
    """From parameters to points."""

    def __init__(self, hydra_context: HydraContext, config: DictConfig, fixed: Sequence[str]) -> None:
        self.loader = hydra_context.config_loader
        self.config = config
        self.fixed = list(fixed)
        self.points = Points()

    def point(self, params: Mapping[str, Any], *more: str) -> Point:
        """Compose `params`, and the words in `more`, without a test; raises ConfigError for what cannot be run."""
        return self._compose([*self.fixed, *space.words(params), *more, "trainer.test=false"])

    def tested(self, point: Point) -> Point:
        """The same run, tested and not trained again: of two words on a key Hydra takes the last."""
        return self._compose([*point.overrides, "trainer.test=true", "if_exists=reuse"])

    def _compose(self, words: list[str]) -> Point:
        given = to_config(self.loader.load_sweep_config(self.config, words))
        return self.points.resolve(words, replace(given, confirm=ConfirmConfig()))

    def shared(self) -> Config:
        """What all trials share, searched keys at their defaults: the seed, what is confirmed at the end."""
        return to_config(self.loader.load_sweep_config(self.config, self.fixed))

    def single_run(self, params: Mapping[str, Any]) -> list[str]:
        """The words of a single run that is the same as the trial with `params`, and is tested."""
        point = self.point(params)
        fixed = [word for word in self.fixed if not word.lstrip("+~").startswith(OF_A_SWEEP)]
        if any(word.startswith("experiment=") for word in fixed):
            fixed.append("hydra.mode=RUN")  # the experiment may say that it is a sweep,
        if point.config.tracking.save_model == "best":
            fixed.append("tracking.save_model=all")  # and which of its models is kept
        return [*fixed, *space.words(params), *(f"{option.key}={shown(option.neutral)}" for option in point.inert)]
