"""Searches as a user starts them: trials, pruning, confirmation, and the same command again.

Hydra's own test suite for sweepers composes configurations that this project's schema refuses; its suite for launchers
runs in `tests/launcher/test_hydra_suites.py`.
"""

import csv
import io
import json
import shlex
from dataclasses import dataclass
from pathlib import Path

import mlflow
import optuna
import pytest
from mlflow.entities import Run
from optuna.trial import TrialState

from beans_exp.tracking import tags
from beans_exp.tracking.reader import open_reader
from tests.conftest import TINY
from tests.driver import Driver, Ended

pytestmark = pytest.mark.xdist_group("search")

SEARCH = ["-m", "hydra/sweeper=optuna", *TINY, "trainer.batch_size=6"]
GRID = [*SEARCH, "trainer.epochs=1", "kernel=k3,k5", "reg.l2=choice(0.0,0.01)", "hydra/sweeper/sampler=brute_force"]
GRID += ["tracking.save_model=none", "confirm.top=1", "confirm.seeds=1", "hydra.sweeper.n_jobs=2"]


class Results:
    """What the search of an experiment has left in the store of `folder`."""

    def __init__(self, folder: Path, name: str = "beans_exp") -> None:
        self.client = mlflow.MlflowClient(f"sqlite:///{folder.resolve()}/mlruns/mlflow.db")
        experiment = self.client.get_experiment_by_name(name)
        assert experiment is not None
        self.runs: list[Run] = [*self.client.search_runs([experiment.experiment_id])]
        self.parents = [run for run in self.runs if run.data.tags.get("beans.role") == "sweep"]
        (self.parent,) = self.parents
        self.children = [run for run in self.runs if run.data.tags.get("mlflow.parentRunId") == self.parent.info.run_id]
        self.files = {item.path for item in self.client.list_artifacts(self.parent.info.run_id)}

    def table(self, name: str) -> list[dict[str, str]]:
        """The rows of a CSV file of the parent run."""
        text = mlflow.artifacts.load_text(f"{self.parent.info.artifact_uri}/{name}")
        return list(csv.DictReader(io.StringIO(text)))


@dataclass(frozen=True)
class Searched:
    """A search of three trials, its results, and then the same command with one more."""

    folder: Path
    first: Ended
    results: Results
    trials: list[dict[str, str]]
    confirmation: list[dict[str, str]]
    resumed: Ended


@pytest.fixture(scope="module")
def searched(quick: Driver, tmp_path_factory: pytest.TempPathFactory) -> Searched:
    folder = tmp_path_factory.mktemp("search")
    first = quick.run(*GRID, "hydra.sweeper.n_trials=3", folder=folder)
    assert first.returncode == 0, first.stdout + first.stderr
    results = Results(folder)
    trials, confirmation = results.table("trials.csv"), results.table("confirmation.csv")
    resumed = quick.run(*GRID, "hydra.sweeper.n_trials=4", folder=folder)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    return Searched(folder, first, results, trials, confirmation, resumed)


def test_a_search_is_confirmed_on_fresh_seeds_and_only_the_winner_is_tested(searched: Searched) -> None:
    assert [trial["state"] for trial in searched.trials] == ["COMPLETE"] * 3
    assert len({(trial["params_kernel"], trial["params_reg.l2"]) for trial in searched.trials}) == 3
    chosen_by, tested_later = searched.confirmation
    assert (chosen_by["seed"], tested_later["seed"]) == ("1", "2")
    assert (chosen_by["test_accuracy"], tested_later["trial"]) == ("", chosen_by["trial"])
    results = searched.results
    tested = {run.info.run_id for run in results.children if "test/accuracy" in run.data.metrics}
    assert tested == {tested_later["run_id"]}, "not the run that the winner was chosen by"
    assert {run.info.status for run in results.runs} == {"FINISHED"}
    assert {"history.png", "trials.csv", "confirmation.csv", "jobs.csv"} <= results.files
    printed = searched.first.stdout
    mean = f"mean val/accuracy {float(chosen_by['value']):.4f}, runs {chosen_by['run_id'][:8]} (seed 1)"
    assert f"confirmed on fresh seeds: trial {chosen_by['trial']}: {mean}" in printed
    assert f"test/accuracy {float(tested_later['test_accuracy']):.4f}, runs {tested_later['run_id'][:8]}" in printed
    assert "this study has tested 1 winner on the test images" in printed
    assert "best trial" in printed and "python -m beans_exp data=synthetic" in printed


def test_the_same_command_resumes_a_search(searched: Searched) -> None:
    assert searched.resumed.stdout.count("started: ") <= 1 + 1 + 1, "finished runs are reused"
    results = Results(searched.folder)
    assert len(results.table("trials.csv")) == 4
    assert "importances.png" in results.files
    assert len(results.parents) == 1
    reader = open_reader(f"sqlite:///{searched.folder.resolve()}/mlruns/mlflow.db", "beans_exp")
    assert reader.confirmed() == {row["run_id"] for row in results.table("confirmation.csv")}


def test_a_plan_counts_finished_and_remaining_trials(searched: Searched, quick: Driver) -> None:
    plan = quick.run(*GRID, "hydra.sweeper.n_trials=6", "plan=true", folder=searched.folder)
    assert plan.returncode == 0, plan.stderr
    assert "4 trials exist: 4 complete" in plan.stdout
    assert "remaining: 0 trials, 2 confirmation runs; in sequence: " in plan.stdout


def test_a_plan_lists_the_space_and_writes_nothing(quick: Driver) -> None:
    plan = quick.run(*SEARCH, "trainer.epochs=1", "kernel=k3,k5", "hydra/sweeper/sampler=grid", "plan=true")
    assert plan.returncode == 0, plan.stderr
    assert 'kernel: choice ["k3", "k5"]' in plan.stdout and "0 trials exist" in plan.stdout
    assert ": 2 trials over" in plan.stdout and "remaining: 2 trials" in plan.stdout
    assert not Path("mlruns").exists() and not Path("outputs").exists()


def test_a_plan_makes_the_sampler(quick: Driver) -> None:
    plan = quick.run(*SEARCH, "kernel=k3,k5", "hydra.sweeper.sampler._target_=optuna.samplers.Nope", "plan=true")
    assert plan.returncode == 1 and "optuna.samplers.Nope: must be the path of a class" in plan.stderr


def test_the_printed_command_runs_as_it_is_printed(searched: Searched, quick: Driver) -> None:
    own = searched.folder / "own options" / "reg"
    own.mkdir(parents=True)
    (own / "mine.yaml").write_text("name: mine\nl2: 0.125\n")
    words = ["--config-dir", str(own.parent), *SEARCH, "trainer.epochs=1", "reg=mine", "kernel=k3,k5"]
    words += ["hydra.sweeper.n_trials=1", "confirm.top=0", "tracking.experiment=two words"]
    first = quick.run(*words, folder=searched.folder)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "No artists with labels" not in first.stdout + first.stderr
    printed = next(line for line in first.stdout.splitlines() if line.startswith("  python -m beans_exp"))
    again = quick.run(*shlex.split(printed)[3:], folder=searched.folder)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "test/accuracy" in Results(searched.folder, "two words").children[0].data.metrics


@pytest.mark.parametrize(
    ("pruner", "message", "epochs"),
    [
        (["hydra.sweeper.trial_seconds=1e-6"], "(hydra.sweeper.trial_seconds=1e-06)", 1),
        (
            ["hydra/sweeper/pruner=threshold", "objective.name=train/loss", "objective.direction=minimize"],
            "pruned after epoch 2 of stage 1: other trials were better at this epoch",
            2,
        ),
    ],
    ids=["time", "values"],
)
def test_a_search_whose_trials_are_all_pruned_fails_with_the_reason(
    pruner: list[str], message: str, epochs: int, searched: Searched, quick: Driver
) -> None:
    folder = Path("options/hydra/sweeper/pruner")
    folder.mkdir(parents=True)
    (folder / "threshold.yaml").write_text("_target_: optuna.pruners.ThresholdPruner\nupper: 0.0\n")
    experiment = f"pruned-{epochs}"
    words = [*SEARCH, "trainer.epochs=50", "reg.l2=interval(0,0.1)", "hydra.sweeper.n_trials=1"]
    words = ["--config-dir", str(Path("options").resolve()), *words, f"tracking.experiment={experiment}"]
    ended = quick.run(*words, *pruner, folder=searched.folder)
    assert ended.returncode == 1
    assert message in ended.stdout
    assert "search failed: no trial completed" in ended.stdout
    slow = any("seconds" in word for word in pruner)
    assert ("1 pruned for their duration, not their values" in ended.stdout) is slow
    results = Results(searched.folder, experiment)
    (run,) = results.children
    assert (run.data.tags["beans.status"], run.info.status) == ("pruned", "KILLED")
    assert not run.outputs.model_outputs
    steps = [point.step for point in results.client.get_metric_history(run.info.run_id, "train/loss")]
    assert steps == list(range(1, epochs + 1))
    study = json.loads(results.parent.data.tags[tags.STUDY])
    (trial,) = optuna.load_study(study_name=study["name"], storage=study["storage"]).trials
    assert trial.state == TrialState.PRUNED


def test_a_search_runs_with_any_launcher_and_several_objectives(searched: Searched, quick: Driver) -> None:
    words = [*SEARCH, "trainer.epochs=1", "kernel=k3,k5", "hydra/launcher=basic", "hydra/sweeper/sampler=grid"]
    words += ["objective.name=[val/accuracy,model/parameters]", "objective.direction=[maximize,minimize]"]
    words += ["tracking.experiment=several", "hydra.sweeper.n_trials=5"]
    ended = quick.run(*words, folder=searched.folder)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "pruning is off: objective.name=[val/accuracy,model/parameters]" in ended.stdout + ended.stderr
    assert len(Results(searched.folder, "several").table("trials.csv")) == 2, "a grid ends with its last point"
