"""Samplers of a shared study: what they draw depends on the trial, not on the process that draws it."""

from dataclasses import replace
from typing import Any

import pytest
import yaml
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from beans_exp.schema import CONF
from tests.hpo.studies import DESCRIPTION, journal_url, open_test_study


@pytest.mark.parametrize("kind", ["TPESampler", "RandomSampler", "CmaEsSampler", "NSGAIISampler"])
def test_draws_depend_on_the_trials_number_not_on_the_process(kind: str) -> None:
    sampler = {"_target_": f"optuna.samplers.{kind}", "seed": 3}
    single, shared = journal_url("single.log"), journal_url("shared.log")
    with open_test_study(single, sampler=sampler) as study:
        expected = [study.ask().params for _ in range(4)]
    with open_test_study(shared, sampler=sampler) as one, open_test_study(shared, sampler=sampler) as other:
        drawn = [study.ask().params for study in (one, other, other, one)]
    assert drawn == expected
    assert len({tuple(params.values()) for params in drawn}) == 4


@pytest.mark.parametrize("kind", sorted(file.stem for file in (CONF / "hydra/sweeper/sampler").glob("*.yaml")))
def test_every_shipped_sampler_resumes_a_search(kind: str) -> None:
    sampler = yaml.safe_load((CONF / f"hydra/sweeper/sampler/{kind}.yaml").read_text())
    searched: dict[str, Any] = {
        "kernel": CategoricalDistribution(["k3", "k5"]),
        "finetune.blocks": IntDistribution(0, 11),
        "reg.dropout": FloatDistribution(0, 0.5, step=0.1),
    }
    for _ in range(2):
        with open_test_study(journal_url(), replace(DESCRIPTION, space=searched), sampler) as study:
            for _ in range(5):
                trial = study.ask()
                study.tell(trial, trial.params["reg.dropout"], TrialState.COMPLETE)
    points = {tuple(trial.params.values()) for trial in study.counted}
    assert len(study.counted) == 10 and len(points) > 6, "the second command draws further points"
