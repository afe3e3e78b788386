"""Searches as a user starts them: trials, pruning, confirmation, and the same command again.

Hydra has a suite for sweepers, too, of those that start batches: it composes configurations of its own, which a sweeper
that plans by this project's schema refuses. Its suites for launchers run in `test_isolated.py`.
"""

import csv
import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import optuna
import pytest
from hydra.core.config_loader import ConfigLoader
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import RunMode
from mlflow.entities import Run

from beans_exp.hpo import space
from beans_exp.schema import Config
from beans_exp.startup.hydra_checks import single_config
from beans_exp.sweep.composer import Composer
from beans_exp.sweep.confirm import run_points
from beans_exp.sweep.point import Point, Points
from beans_exp.sweep.search import _looked_over
from tests.conftest import TINY, Program

SEARCH = ["-m", "hydra/sweeper=optuna", *TINY, "trainer.batch_size=6"]


def _runs() -> list[Run]:
    client = mlflow.MlflowClient(f"sqlite:///{Path('mlruns/mlflow.db').resolve()}")
    experiment = client.get_experiment_by_name("beans_exp")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"]))


def _parent() -> Run:
    (parent,) = (run for run in _runs() if run.data.tags.get("beans.role") == "sweep")
    return parent


def _children() -> list[Run]:
    return [run for run in _runs() if run.data.tags.get("mlflow.parentRunId") == _parent().info.run_id]


def _artifact(name: str) -> list[dict[str, str]]:
    text = mlflow.artifacts.load_text(f"{_parent().info.artifact_uri}/{name}")
    return list(csv.DictReader(io.StringIO(text)))


def test_a_search_is_confirmed_and_goes_on_where_it_stopped(program: Program) -> None:
    words = [*SEARCH, "trainer.epochs=1", "kernel=k3,k5", "reg.l2=choice(0.0,0.01)", "confirm.top=1", "confirm.seeds=1"]
    words += ["hydra/sweeper/sampler=brute_force", "hydra.sweeper.n_jobs=2"]
    first = program(*words, "hydra.sweeper.n_trials=3")
    assert first.returncode == 0, first.stdout + first.stderr
    trials = _artifact("trials.csv")
    assert [trial["state"] for trial in trials] == ["COMPLETE"] * 3
    assert len({(trial["params_kernel"], trial["params_reg.l2"]) for trial in trials}) == 3
    confirmed = _artifact("confirmation.csv")
    assert [row["seed"] for row in confirmed] == ["1"]
    tested = {run.info.run_id for run in _children() if "test/accuracy" in run.data.metrics}
    assert tested == {row["run_id"] for row in confirmed}, "one look at test, at the winner's runs"
    assert {run.info.status for run in _runs()} == {"FINISHED"}
    assert "confirmed on fresh seeds: trial" in first.stdout
    assert "best trial" in first.stdout and "python -m beans_exp data=synthetic" in first.stdout
    client = mlflow.MlflowClient(f"sqlite:///{Path('mlruns/mlflow.db').resolve()}")
    kept = {item.path for item in client.list_artifacts(_parent().info.run_id)}
    assert {"history.png", "trials.csv", "confirmation.csv", "jobs.csv"} <= kept

    again = program(*words, "hydra.sweeper.n_trials=4")
    assert again.returncode == 0, again.stdout + again.stderr
    assert again.stdout.count("started: ") <= 1 + 1 + 1, "what is finished is reused"
    assert len(_artifact("trials.csv")) == 4
    assert "importances.png" in {item.path for item in client.list_artifacts(_parent().info.run_id)}
    parents = [run for run in _runs() if run.data.tags.get("beans.role") == "sweep"]
    assert len(parents) == 1


def _composer(loader: ConfigLoader, words: list[str]) -> Composer:
    config = loader.load_configuration("config", words, RunMode.MULTIRUN)
    return Composer(SimpleNamespace(config_loader=loader), config, words)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("words", "params"),
    [
        (["experiment=search_finetune"], {"finetune.blocks": 2, "finetune.learning_rate": 3e-5, "reg": "dropout"}),
        (
            ["experiment=search_transfer", "confirm.top=1"],
            {"model.top_block": "mixed5", "finetune.blocks": 9, "finetune.epochs": 7, "reg.augment": "[flip]"},
        ),
        (["tracking.save_model=best", "model=inception"], {"finetune.blocks": 0, "finetune.learning_rate": 3e-5}),
    ],
)
def test_the_line_to_paste_runs_the_trial_again(
    words: list[str], params: dict[str, Any], loader: ConfigLoader, weights: str
) -> None:
    words = ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=2", *words, "data=synthetic", "data.image_size=75"]
    words.append(f"model.weights={weights}")
    composer = _composer(loader, words)
    line = composer.single_run(params)
    single = loader.load_configuration("config", line, RunMode.RUN)
    assert single.hydra.mode in (None, RunMode.RUN)
    again = Points().resolve(line, single_config(single))
    assert again.fingerprint == composer.point(params).fingerprint
    assert again.config.trainer.test and not again.inert


def test_the_winner_is_tested_and_not_trained_again(loader: ConfigLoader) -> None:
    composer = _composer(loader, [*TINY, "if_exists=rerun"])
    config = composer.tested(composer.point({"reg.l2": 0.1})).config
    assert (config.if_exists, config.trainer.test) == ("reuse", True)


def test_an_option_that_acts_beside_one_choice_alone_is_searched(loader: ConfigLoader, weights: str) -> None:
    words = ["model=lenet,inception,googlenet", "finetune.blocks=range(0,4)"]
    _, searched = space.split_overrides(space.parsed(None, words, loader))
    fixed = [f"model.weights={weights}", "data=synthetic", "data.image_size=75"]
    _, tunes = _looked_over(_composer(loader, fixed), searched)
    assert tunes


def test_a_plan_tells_what_is_searched_and_what_is_there(program: Program) -> None:
    words = [*SEARCH, "trainer.epochs=1", "kernel=k3,k5", "hydra/sweeper/sampler=grid", "confirm.top=0"]
    nothing = program(*words, "plan=true")
    assert nothing.returncode == 0, nothing.stderr
    assert 'kernel: choice ["k3", "k5"]' in nothing.stdout and "0 trials exist" in nothing.stdout
    assert not Path("mlruns").exists() and not Path("outputs").exists()
    assert program(*words, "hydra.sweeper.n_trials=1").returncode == 0
    some = program(*words, "hydra.sweeper.n_trials=2", "plan=true")
    assert "1 trials exist: 1 complete" in some.stdout
    assert "remaining: 1 trials, 0 confirmation runs; one after another: " in some.stdout


class _Reversed:
    """Jobs that come back in another order than they were started in, the seed as their objective."""

    has_room = True

    def __init__(self) -> None:
        self.started: list[Point] = []

    def reuse(self, point: Point) -> None:
        return None

    def start(self, point: Point) -> int:
        self.started.append(point)
        return len(self.started) - 1

    def wait(self) -> list[tuple[int, JobReturn]]:
        results = [JobReturn(status=JobStatus.COMPLETED) for _ in self.started]
        for result, point in zip(results, self.started, strict=True):
            result.return_value = float(point.config.seed)
        return list(enumerate(results))[::-1]


def test_a_value_belongs_to_its_seed_whatever_ends_first() -> None:
    points = [Point([], Config(seed=seed), f"mark{seed}", [], precision_was_auto=False) for seed in range(3)]
    assert run_points(_Reversed(), points) == {"mark0": 0.0, "mark1": 1.0, "mark2": 2.0}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("pruner", "message", "epochs"),
    [
        (["hydra.sweeper.trial_seconds=1e-6"], "(hydra.sweeper.trial_seconds=1e-06)", 1),
        (
            ["hydra/sweeper/pruner=threshold", "objective.name=train/loss", "objective.direction=minimize"],
            "pruned after epoch 2 of stage 1: trials of its age do better",
            2,
        ),
    ],
    ids=["time", "values"],
)
def test_pruned_trials_are_told_apart_and_a_search_of_them_alone_fails(
    pruner: list[str], message: str, epochs: int, program: Program
) -> None:
    folder = Path("options/hydra/sweeper/pruner")
    folder.mkdir(parents=True)
    (folder / "threshold.yaml").write_text("_target_: optuna.pruners.ThresholdPruner\nupper: 0.0\n")
    words = [*SEARCH, "trainer.epochs=50", "reg.l2=interval(0,0.1)", "hydra.sweeper.n_trials=1"]
    ended = program("--config-dir", "options", *words, *pruner)
    assert ended.returncode == 1
    assert message in ended.stdout
    assert "no trial completed" in ended.stdout
    slow = any("seconds" in word for word in pruner)
    assert ("1 pruned for their time, not their values" in ended.stdout) is slow
    (run,) = _children()
    assert (run.data.tags["beans.status"], run.info.status) == ("pruned", "KILLED")
    assert not run.outputs.model_outputs
    client = mlflow.MlflowClient(f"sqlite:///{Path('mlruns/mlflow.db').resolve()}")
    steps = [point.step for point in client.get_metric_history(run.info.run_id, "train/loss")]
    assert steps == list(range(1, epochs + 1))
    (name,) = optuna.get_all_study_names(f"sqlite:///{Path('mlruns/optuna.db').resolve()}")
    (trial,) = optuna.load_study(study_name=name, storage=f"sqlite:///{Path('mlruns/optuna.db').resolve()}").trials
    assert trial.state == optuna.trial.TrialState.PRUNED


def test_any_launcher_and_several_objectives(program: Program) -> None:
    words = [*SEARCH, "trainer.epochs=1", "kernel=k3,k5", "hydra/launcher=basic", "hydra/sweeper/sampler=grid"]
    words += ["objective.name=[val/accuracy,model/parameters]", "objective.direction=[maximize,minimize]"]
    ended = program(*words, "hydra.sweeper.n_trials=5")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "no trial is pruned by its values" in ended.stdout + ended.stderr
    assert len(_artifact("trials.csv")) == 2, "a grid ends with its last point"


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
        (["tracking.experiment=a,b"], ["tracking", "a search has one"]),
        (["finetune.blocks=range(0,3)"], ["finetune.blocks", "acts at no point"]),
    ],
    ids=lambda value: " ".join(value)[:40],
)
def test_bad_input_is_one_message_and_nothing_is_written(
    words: list[str], messages: list[str], program: Program
) -> None:
    ended = program("-m", "hydra/sweeper=optuna", *TINY, *words)
    assert ended.returncode == 1
    printed = ended.stdout + ended.stderr
    assert all(message in printed for message in messages), printed
    assert "Traceback" not in printed
    assert not Path("mlruns").exists() and not Path("outputs").exists()
