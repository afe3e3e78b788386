"""Stores after a measured run: opened from a folder, and searched for runs, epochs and trials lost or duplicated."""

import contextlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from beans_exp.metrics import is_per_epoch
from beans_exp.tracking import tags

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "beans_exp"
"""The product's default."""


@contextlib.contextmanager
def store_of(folder: Path) -> Iterator["MlflowClient"]:
    """Yield a client for the store that the product created in `folder`."""
    import mlflow

    with contextlib.chdir(folder):  # MLflow creates mlruns/ in the working folder
        yield mlflow.MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")


def search_runs(client: "MlflowClient", experiment: str = EXPERIMENT, **query: Any) -> list[Any]:
    """Return up to 1,000 runs of `experiment`, parent runs included."""
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    return list(client.search_runs([found.experiment_id], **{"max_results": 1000} | query))


def finished_jobs(runs: list[Any]) -> list[Any]:
    """Return the finished runs without parent runs."""
    return [run for run in runs if run.info.status == "FINISHED" and not is_parent(run)]


def is_parent(run: Any) -> bool:
    """Whether `run` is the parent run of a sweep."""
    return run.data.tags.get(tags.ROLE) == tags.SWEEP_ROLE


def trainings(runs: list[Any]) -> Counter[str]:
    """Return how often each fingerprint was trained to its end."""
    return Counter(run.data.tags[tags.FINGERPRINT] for run in finished_jobs(runs))


def open_or_orphaned(runs: list[Any]) -> list[str]:
    """Return problems with the `runs` of a sweep that has ended: not exactly one parent run, runs still open."""
    parents = sum(map(is_parent, runs))
    problems = [f"{parents} parent runs"] if parents != 1 else []
    return problems + [f"run {run.info.run_id} is RUNNING" for run in runs if run.info.status == "RUNNING"]


def wrong_steps(client: "MlflowClient", run: Any, epochs: int) -> list[str]:
    """Return a problem for each metric of `run` that lacks a step of its `epochs`, or has one twice."""
    problems = []
    for name in run.data.metrics:
        steps = sorted(point.step for point in client.get_metric_history(run.info.run_id, name))
        if steps != (list(range(1, epochs + 1)) if is_per_epoch(name) else [0]):
            problems.append(f"{name} of run {run.info.run_id} has steps {steps}")
    return problems


def trial_states(storage: str) -> Counter[str]:
    """Return the number of trials in each state, in the only study at the address `storage`, retried ones left out."""
    import optuna

    from beans_exp.hpo.trial_attrs import counted

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    (name,) = (name for name in optuna.get_all_study_names(storage) if not name.endswith(".confirmation"))
    trials = optuna.load_study(study_name=name, storage=storage).trials
    return Counter(trial.state.name for trial in counted(trials))
