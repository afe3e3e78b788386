"""The sampler of a study whose trials are asked for by several processes, and by the same command again."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from beans_exp.hpo import space
from beans_exp.hpo.instantiate import instantiate

ONCE = ("GridSampler", "BruteForceSampler")
"""Samplers that draw each point once, and no more."""
UNSEEDED = (*ONCE, "QMCSampler")
"""Samplers that find their place by themselves, whoever asks."""
WHERE = "hydra.sweeper.sampler"


def make_sampler(node: Mapping[str, Any], searched: Mapping[str, BaseDistribution]) -> BaseSampler:
    """Return the sampler that `node` describes; one with a seed draws by the trial's number."""
    kind = _kind(node)
    more = {"search_space": space.grid(searched)} if kind == "GridSampler" else {}
    if kind in UNSEEDED or not isinstance(node.get("seed"), int):
        return instantiate(dict(node), WHERE, **more)
    return ByTrial(lambda seed: instantiate({**node, "seed": seed}, WHERE, **more), node["seed"])


def number_of_points(node: Mapping[str, Any], searched: Mapping[str, BaseDistribution]) -> int | None:
    """Return how many points the sampler that `node` describes draws; None where there is no end of them.

    Raises ConfigError for an interval of floats, which such a sampler cannot draw.
    """
    return math.prod(map(len, space.grid(searched).values())) if _kind(node) in ONCE else None


def _kind(node: Mapping[str, Any]) -> str:
    return str(node.get("_target_")).rpartition(".")[2]


class ByTrial(BaseSampler):
    """A sampler that is made anew for each trial, with a seed by the trial's number.

    With one seed, machines that share a study would all draw the same points, and a restart its first ones again.
    What samplers know beyond their seed is in the study.
    """

    def __init__(self, make: Callable[[int], BaseSampler], seed: int) -> None:
        self.make = make
        self.seed = seed
        self.sampler = make(seed)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Make the sampler of this trial: Optuna calls this before it draws."""
        self.sampler = self.make((self.seed + trial.number) % 2**32)
        self.sampler.before_trial(study, trial)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """What is drawn together."""
        return self.sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw what is drawn together."""
        return self.sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Draw one value."""
        return self.sampler.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """Let the sampler learn from a trial that has ended."""
        self.sampler.after_trial(study, trial, state, values)
