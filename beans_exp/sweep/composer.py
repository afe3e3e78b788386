"""Compose a trial's parameters: to their point, and to the overrides of an equal single run."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.types import HydraContext
from omegaconf import DictConfig

from beans_exp.hpo import space
from beans_exp.schema import CONF, Config, ConfirmConfig, to_config
from beans_exp.schema.composed import given_overrides
from beans_exp.sweep.one_sweep import compose_point
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

    def shared_config(self, *more: str) -> Config:
        """Return the configuration that all trials share, with the overrides in `more`; searched keys have defaults."""
        return to_config(compose_point(self.loader, self.config, [*self.fixed, *more]))

    @property
    def program(self) -> list[str]:
        """The command that composes from the same files as this one, without its overrides."""
        words = ["python", "-m", "beans_exp"]
        places = {source.provider: source.path for source in self.config.hydra.runtime.config_sources}
        if (main := places.get("main")) and Path(main) != CONF:
            words += ["--config-path", main]
        if (name := self.config.hydra.job.config_name) not in (None, "config"):
            words += ["--config-name", name]
        words += ["--config-dir", places["command-line"]] if "command-line" in places else []
        return [*words, *(word for word in given_overrides(self.config, "hydra") if "hydra.searchpath=" in word)]

    def single_run(self, params: Mapping[str, Any]) -> list[str]:
        """Return the overrides of a single run that equals the trial with `params`, and is tested."""
        point = self.point(params)
        fixed = [word for word in self.fixed if not word.lstrip("+~").startswith(SWEEP_ONLY)]
        if any(word.startswith("experiment=") for word in fixed):
            fixed.append("hydra.mode=RUN")  # the experiment may set MULTIRUN,
        if point.config.tracking.save_model == "best":
            fixed.append("tracking.save_model=all")  # and `best`, which a single run refuses
        neutral = [option.way_out for option in point.inert]
        return [*fixed, *space.to_overrides(params), *neutral]

    def _compose(self, overrides: list[str]) -> Point:
        config = to_config(compose_point(self.loader, self.config, overrides))
        return self.points.resolve(overrides, replace(config, confirm=ConfirmConfig()))
