"""The identity of a study: its search space, and every setting that determines its trials' values."""

from collections.abc import Mapping
from importlib.metadata import version

from optuna.distributions import BaseDistribution, CategoricalDistribution

from beans_exp.data.source import text_digest
from beans_exp.fingerprint import RESULT_VERSION, UNHASHED
from beans_exp.hpo.study import StudyDescription
from beans_exp.models.weights import weights_digest
from beans_exp.schema import Config
from beans_exp.schema.rules import shown
from beans_exp.sweep.composer import Composer
from beans_exp.sweep.point import Point
from beans_exp.tracking.params import flat_params

UNDECISIVE = (
    "hydra.",
    "tracking.",
    "confirm.",
    "plan=",
    "data.data_dir=",
    "data.file=",
    "data.cache_dir=",
    "features.",
)
"""Overrides that change no trial's value."""
UNDECISIVE_KEYS = ("tracking.", "confirm.", "objective.", "study", *UNHASHED)
"""Logged keys that change no trial's value, or are facts of their own."""


def describe_study(composer: Composer, first: Point, searched: dict[str, BaseDistribution]) -> StudyDescription:
    """Return the description of the study of `searched`; `first` is any of its points."""
    source = composer.points.source(first.config)
    fixed = sorted(word for word in composer.fixed if not word.lstrip("+~").startswith(UNDECISIVE))
    objective = zip(first.config.objective.directions, first.config.objective.metrics, strict=True)
    facts = {
        "objective": ", ".join(" ".join(pair) for pair in objective),
        "data": f"{source.name} {source.version} {source.digest[:16]}",
        "beans_exp": version("beans-exp"),
        "result version": str(RESULT_VERSION),
    }
    if first.config.model.pretrained:
        facts["weights"] = str(weights_digest(first.config.model))[:16]
    configuration = _configuration(composer, searched)
    return StudyDescription(searched, facts, first.config.objective.directions, configuration, " ".join(fixed))


def _configuration(composer: Composer, searched: Mapping[str, BaseDistribution]) -> dict[str, str]:
    """The values that all trials share, and for each option that is searched what it changes in them.

    The words of a command are not enough: its experiment file, its own options and its variables may have changed.
    """
    shared = _decisive(composer.shared_config())
    found = {key: value for key, value in shared.items() if key not in searched}
    for group, distribution in searched.items():
        if "." in group or not isinstance(distribution, CategoricalDistribution):
            continue
        for option in distribution.choices:
            word = f"{group}={shown(option)}"
            changed = _decisive(composer.shared_config(word)).items() - shared.items()
            found[word] = ", ".join(f"{key}={value}" for key, value in sorted(changed))
    return found


def _decisive(config: Config) -> dict[str, str]:
    return {key: value for key, value in flat_params(config).items() if not key.startswith(UNDECISIVE_KEYS)}


def default_study_name(entries: Mapping[str, str], experiment: str) -> str:
    """Return a name by the description's `entries`, so that the same search in `experiment` finds its study again."""
    return f"beans_exp-{text_digest((entries, experiment))[:12]}"
