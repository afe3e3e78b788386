"""The identity of a study: its search space, and every setting that determines its trials' values."""

from collections.abc import Mapping
from importlib.metadata import version

from optuna.distributions import BaseDistribution

from beans_exp.data.source import text_digest
from beans_exp.fingerprint import RESULT_VERSION
from beans_exp.hpo.study import StudyDescription
from beans_exp.models.weights import weights_digest
from beans_exp.sweep.composer import Composer
from beans_exp.sweep.point import Point

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


def describe_study(composer: Composer, first: Point, searched: dict[str, BaseDistribution]) -> StudyDescription:
    """Return the description of the study of `searched`; `first` is any of its points."""
    source = composer.points.source(first.config)
    fixed = sorted(word for word in composer.fixed if not word.lstrip("+~").startswith(UNDECISIVE))
    objective = zip(first.config.objective.directions, first.config.objective.metrics, strict=True)
    facts = {
        "objective": ", ".join(" ".join(pair) for pair in objective),
        "fixed overrides": " ".join(fixed),
        "data": f"{source.name} {source.version} {source.digest[:16]}",
        "beans_exp": version("beans-exp"),
        "result version": str(RESULT_VERSION),
    }
    if first.config.model.pretrained:
        facts["weights"] = str(weights_digest(first.config.model))[:16]
    return StudyDescription(searched, facts, first.config.objective.directions)


def default_study_name(entries: Mapping[str, str], experiment: str) -> str:
    """Return a name by the description's `entries`, so that the same search in `experiment` finds its study again."""
    return f"beans_exp-{text_digest((entries, experiment))[:12]}"
