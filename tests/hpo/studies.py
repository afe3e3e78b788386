"""A study to test with, and storages to keep it in."""

from pathlib import Path
from typing import Any

from optuna.distributions import FloatDistribution, IntDistribution

from beans_exp.hpo.study import SharedStudy, StudyDescription, open_study

SPACE: dict[str, Any] = {"finetune.blocks": IntDistribution(0, 11), "reg.dropout": FloatDistribution(0, 0.5)}
DESCRIPTION = StudyDescription(SPACE, {"data": "noise 1", "objective": "maximize val/accuracy"}, ["maximize"])
RANDOM = {"_target_": "optuna.samplers.RandomSampler", "seed": 0}
NAME = "name"


def open_test_study(
    url: str, description: StudyDescription = DESCRIPTION, sampler: dict[str, Any] = RANDOM
) -> SharedStudy:
    return open_study(url, NAME, description, sampler)


def sqlite_url(file: str = "deep/optuna.db") -> str:
    """The default kind of storage, in the test's folder; its folder does not exist yet."""
    return f"sqlite:///{Path(file).resolve()}"


def journal_url(file: str = "study.log") -> str:
    """The fastest kind of storage, for tests of what does not depend on it."""
    return f"journal:///{Path(file).resolve()}"
