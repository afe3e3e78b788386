"""Compose a trial's parameters: to their point, and to the overrides of an equal single run."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from hydra.types import HydraContext
from omegaconf import DictConfig

from beans_exp.hpo import space
from beans_exp.schema import Config, ConfirmConfig, to_config
from beans_exp.schema.rules import shown
from beans_exp.sweep.point import Point, Points

SWEEP_ONLY = ("hydra.", "hydra/", "confirm.", "tracking.save_model=best", "plan=")
"""Overrides that have no meaning, or are an error, in a single run."""


class Composer:
    """Composes the points of a search; `fixed` are the overrides that all its trials share."""

    def __init__(self, hydra_context: HydraContext, config: DictConfig, fixed: Sequence[str]) -> None:
        self.loader = hydra_context.config_loader
        self.config = config
        self.fixed = list(fixed)
        self.points = Points()

    def point(self, params: Mapping[str, Any], *more: str) -> Point:
        """Return the point of `params` and the overrides in `more`, untested; raises ConfigError if it cannot run."""
        return self._compose([*self.fixed, *space.to_overrides(params), *more, "trainer.test=false"])

    def tested(self, point: Point) -> Point:
        """Return `point` with the test, not trained again: of two overrides of a key Hydra takes the last."""
        return self._compose([*point.overrides, "trainer.test=true", "if_exists=reuse"])

    def shared_config(self) -> Config:
        """Return the configuration that all trials share; searched keys have their defaults."""
        return to_config(self.loader.load_sweep_config(self.config, self.fixed))

    def single_run(self, params: Mapping[str, Any]) -> list[str]:
        """Return the overrides of a single run that equals the trial with `params`, and is tested."""
        point = self.point(params)
        fixed = [word for word in self.fixed if not word.lstrip("+~").startswith(SWEEP_ONLY)]
        if any(word.startswith("experiment=") for word in fixed):
            fixed.append("hydra.mode=RUN")  # the experiment may set MULTIRUN,
        if point.config.tracking.save_model == "best":
            fixed.append("tracking.save_model=all")  # and `best`, which a single run refuses
        neutral = [f"{option.key}={shown(option.neutral)}" for option in point.inert]
        return [*fixed, *space.to_overrides(params), *neutral]

    def _compose(self, overrides: list[str]) -> Point:
        config = to_config(self.loader.load_sweep_config(self.config, overrides))
        return self.points.resolve(overrides, replace(config, confirm=ConfirmConfig()))
