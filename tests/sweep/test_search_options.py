"""Options, spaces and studies that a search refuses, as a user sees it: one message, and nothing is written."""

from pathlib import Path

import optuna
import pytest

from beans_exp.hpo.study import DESCRIPTION
from tests.conftest import TINY
from tests.driver import Driver

pytestmark = pytest.mark.xdist_group("search")

SEARCH = ["-m", "hydra/sweeper=optuna", *TINY]


@pytest.mark.parametrize(
    ("words", "messages"),
    [
        ([], ["the search space is empty"]),
        (["reg=l1,l2", "objective.name=val/acuracy"], ["objective.name=val/acuracy", "did you mean val/accuracy?"]),
        (["reg=l1,l2", "objective.name=test/accuracy"], ["objective.name=test/accuracy", "no trial is tested"]),
        (["reg=l1,l2", "hydra.sweeper.direction=minimize"], ["hydra.sweeper.direction=minimize", "maximize"]),
        (["reg=l1,l2", "objective.direction=minimize"], ["objective.direction=minimize", "must be maximize"]),
        (["reg.l2=interval(1,0)"], ["reg.l2", "an interval from a finite number to a larger one"]),
        (["reg=l1,l2", "hydra.sweeper.n_jobs=1000"], ["hydra.launcher.n_jobs=1000", "the cores of this machine"]),
        (["reg=l1,l2", "hydra.sweeper.n_trials=0"], ["hydra.sweeper.n_trials=0"]),
        (["reg=l1,l2", "+hydra.sweeper.sampler.typo=1"], ["hydra.sweeper.sampler.typo=1"]),
        (["reg=l1,l2", "hydra.sweeper.storage=redis://x"], ["hydra.sweeper.storage", "redis"]),
        (["reg=l1,l2", "hydra.sweeper.n_trials=null"], ["hydra.sweeper.n_trials=null"]),
        (["reg=l1,l2", "hydra.sweeper.n_trials=ten"], ["hydra.sweeper.n_trials=ten", "Integer"]),
        (["reg=l1,l2", "hydra.sweeper.pruner=none"], ["hydra.sweeper.pruner=none", "hydra/sweeper/pruner=NAME"]),
        (["kernel=k3,k55"], ["k55"]),
        (["tracking.experiment=a,b"], ["tracking", "cannot be searched"]),
        (["finetune.blocks=range(0,3)"], ["finetune.blocks", "no point of the search uses it"]),
    ],
    ids=lambda value: " ".join(value)[:40],
)
def test_bad_input_is_one_message_and_nothing_is_written(words: list[str], messages: list[str], quick: Driver) -> None:
    ended = quick.run(*SEARCH, *words)
    assert ended.returncode == 1
    printed = ended.stdout + ended.stderr
    assert all(message in printed for message in messages), printed
    assert "Traceback" not in printed
    assert not Path("mlruns").exists() and not Path("outputs").exists()


WORDS = [*TINY, "trainer.batch_size=6", "trainer.epochs=1"]
OLD_DESCRIPTION = {
    "beans_exp": "0.1.0",
    "data": "synthetic 1 b83289a550920f4c",
    "fixed overrides": "data.image_size=32 data.test_images=6 data.train_images=12 data.validation_images=6 "
    "data=synthetic trainer.batch_size=6 trainer.epochs=1",
    "kernel": 'choice ["k3", "k5"]',
    "objective": "maximize val/accuracy",
    "reg.l2": "choice [0.0, 0.01]",
}
"""What result version 2 wrote for the search below."""


def test_a_study_of_an_older_result_version_is_refused_with_the_way_out(quick: Driver) -> None:
    Path("mlruns").mkdir()
    url = f"sqlite:///{Path('mlruns/optuna.db').resolve()}"
    study = optuna.create_study(storage=url, study_name="mine", direction="maximize")
    study.set_user_attr(DESCRIPTION, OLD_DESCRIPTION)
    words = ["-m", "hydra/sweeper=optuna", *WORDS, "kernel=k3,k5", "reg.l2=choice(0.0,0.01)"]
    ended = quick.run(*words, "hydra.sweeper.study_name=mine")
    assert ended.returncode == 1
    message = [line for line in ended.stderr.splitlines() if line]
    assert message == [
        f"error: hydra.sweeper.study_name=mine: must be a study of the same search; the one in {url} differs:",
        "  result version: 2 or lower before, 3 now",
        "Set another name, or leave it out for a new study",
    ]
    assert not Path("mlruns/mlflow.db").exists()
