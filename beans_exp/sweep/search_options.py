"""The keys of `hydra.sweeper` that a search reads, and their rules."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from beans_exp.errors import ConfigError, first_line
from beans_exp.hpo.instantiate import instantiate
from beans_exp.hpo.pruning import can_prune
from beans_exp.hpo.storage import absolute_storage
from beans_exp.metrics import BY_NAME, needs_test
from beans_exp.schema import Config
from beans_exp.schema.rules import at_least, broken, fraction, positive, shown

log = logging.getLogger(__name__)


@dataclass
class SearchOptions:
    """`hydra.sweeper` of the Optuna sweeper; `conf/hydra/sweeper/optuna.yaml` explains the keys."""

    sampler: dict[str, Any]
    pruner: dict[str, Any] | None
    direction: Any = None
    storage: str | None = None
    study_name: str | None = None
    n_trials: int = 20
    n_jobs: int = 1
    max_failure_rate: float = 0.0
    timeout: float | None = None
    trial_seconds: float | None = None
    params: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        at_least("hydra.sweeper.n_trials", self.n_trials, 1)
        at_least("hydra.sweeper.n_jobs", self.n_jobs, 1)
        fraction("hydra.sweeper.max_failure_rate", self.max_failure_rate)
        positive("hydra.sweeper.timeout", self.timeout)
        positive("hydra.sweeper.trial_seconds", self.trial_seconds)
        if self.storage is not None:
            absolute_storage(self.storage)


def read_options(given: Mapping[str, Any]) -> SearchOptions:
    """Return `given`, the keys of `hydra.sweeper`, as options; raises ConfigError for an unknown key or a bad value."""
    known = {item.name for item in fields(SearchOptions)}
    typed = OmegaConf.structured(SearchOptions)
    for key, value in given.items():
        if key not in known:
            raise ConfigError(
                f"hydra.sweeper.{key} is not a key of the Optuna sweeper; known: {', '.join(sorted(known))}"
            )
        try:
            typed[key] = value
        except OmegaConfBaseException as error:
            hint = f". Choose an option with hydra/sweeper/{key}=NAME" if key in ("sampler", "pruner") else ""
            raise ConfigError(f"hydra.sweeper.{key}={shown(value)}: {first_line(error)}{hint}") from error
    return cast(SearchOptions, OmegaConf.to_object(typed))


def refuse_test_metrics(config: DictConfig) -> None:
    """Raise ConfigError for an objective that needs the test: trials are not tested."""
    names = config.objective.name
    for metric in [names] if isinstance(names, str) else names:
        if metric in BY_NAME and needs_test(metric):
            raise broken("objective.name", metric, "a training or validation metric in a search: no trial is tested")


def check_options(options: SearchOptions, config: Config) -> None:
    """Raise ConfigError where `options` contradict `config`, a trial's configuration; warn if nothing can be pruned."""
    direction, wanted = options.direction, config.objective.direction
    if direction is not None and direction != wanted:
        raise broken("hydra.sweeper.direction", direction, f"{wanted} (objective.direction), or null")
    if options.pruner:
        instantiate(options.pruner, "hydra.sweeper.pruner")
    if len(config.objective.metrics) > 1 and config.tracking.save_model == "best":
        raise broken("tracking.save_model", "best", "all or none with several objectives: no single run is the best")
    if options.pruner and not can_prune(config) and not str(options.pruner["_target_"]).endswith("NopPruner"):
        reason = "has several metrics" if len(config.objective.metrics) > 1 else "is not measured per epoch"
        log.warning("pruning is off: objective.name=%s %s", shown(config.objective.name), reason)
