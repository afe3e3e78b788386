"""The sampler of a study that several processes share, and that the same command resumes."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from beans_exp.hpo import space
from beans_exp.hpo.instantiate import instantiate

EXHAUSTIVE = ("GridSampler", "BruteForceSampler")
"""Samplers that draw each point exactly once."""
SEQUENTIAL = (*EXHAUSTIVE, "QMCSampler")
"""Samplers that read their position from the study; their seed must be the same for all trials."""
KEY = "hydra.sweeper.sampler"


def make_sampler(node: Mapping[str, Any], searched: Mapping[str, BaseDistribution]) -> BaseSampler:
    """Return the sampler that `node` describes; one with a seed is seeded by it and the trial's number."""
    kind = _kind(node)
    more = {"search_space": space.grid(searched)} if kind == "GridSampler" else {}
    if kind in SEQUENTIAL or not isinstance(node.get("seed"), int):
        return instantiate(dict(node), KEY, **more)
    return SeededByTrial(lambda seed: instantiate({**node, "seed": seed}, KEY, **more), node["seed"])


def number_of_points(node: Mapping[str, Any], searched: Mapping[str, BaseDistribution]) -> int | None:
    """Return how many points the sampler that `node` describes draws; None if it may repeat points.

    Raises ConfigError for an interval of floats, which such a sampler cannot exhaust.
    """
    return math.prod(map(len, space.grid(searched).values())) if _kind(node) in EXHAUSTIVE else None


def _kind(node: Mapping[str, Any]) -> str:
    return str(node.get("_target_")).rpartition(".")[2]


class SeededByTrial(BaseSampler):
    """Makes a new sampler for each trial, with a seed that depends on the trial's number.

    With one seed for all, machines that share a study would draw the same points, and a restart would repeat the first
    ones. Everything else that samplers need is in the study.
    """

    def __init__(self, make: Callable[[int], BaseSampler], seed: int) -> None:
        self.make = make
        self.seed = seed
        self.sampler = make(seed)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Make the sampler of this trial; Optuna calls this before it draws."""
        self.sampler = self.make((self.seed + trial.number) % 2**32)
        self.sampler.before_trial(study, trial)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the parameters that are drawn together."""
        return self.sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw the parameters of `search_space` together."""
        return self.sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Draw one parameter."""
        return self.sampler.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """Pass a trial that has ended to the sampler."""
        self.sampler.after_trial(study, trial, state, values)
