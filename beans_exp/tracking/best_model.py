"""The best model of a sweep: saved for one run, deleted for the others."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import mlflow
from mlflow.entities import Run
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from beans_exp.metrics import OBJECTIVES, is_per_epoch
from beans_exp.tracking import tags


def selected_value(client: mlflow.MlflowClient, run: Run, select: str, name: str) -> float:
    """Return the metric `name` of `run`; the selected epoch's value of one that is logged per epoch."""
    if not is_per_epoch(name) or select == "last":
        return float(run.data.metrics[name])
    step = run.data.metrics["best/epoch"]
    return next(float(point.value) for point in client.get_metric_history(run.info.run_id, name) if point.step == step)


@dataclass(frozen=True)
class Ranked:
    """What a run is ranked by in its sweep: the `value` of `metric` in the epoch that `select` chooses."""

    sweep: str | None
    metric: str
    select: str
    value: float


def keep_best_model(client: mlflow.MlflowClient, run_id: str, rank: Ranked, save: Callable[[], None]) -> None:
    """Call `save` if the run's value beats that of every sibling in the sweep that has a model; delete their models.

    One model remains of two that are saved at the same moment.
    """
    own = _sign(rank) * rank.value
    if any(value >= own for value, _ in _rivals(client, run_id, rank)):
        client.set_tag(run_id, tags.MODEL, "not saved: not the best of its sweep")
        return
    save()
    rivals = {(value, run.info.run_id): run for value, run in _rivals(client, run_id, rank)}
    rivals[own, run_id] = client.get_run(run_id)
    delete_models(client, (rivals[place] for place in sorted(rivals)[:-1]))


def _rivals(client: mlflow.MlflowClient, run_id: str, rank: Ranked) -> list[tuple[float, Run]]:
    """The other runs of the sweep that have a model, with their values; higher is better.

    Runs that confirm a search are left out, because they all keep their models.
    """
    query = f"{tags.equals(tags.SWEEP, str(rank.sweep))} and params.`tracking.save_model` = 'best'"
    found = client.search_runs([client.get_run(run_id).info.experiment_id], query)
    others = [run for run in found if run.info.run_id != run_id and has_model(run)]
    return [(_sign(rank) * selected_value(client, run, rank.select, rank.metric), run) for run in others]


def _sign(rank: Ranked) -> int:
    return 1 if OBJECTIVES[rank.metric] == "maximize" else -1


def has_model(run: Run) -> bool:
    """Whether `run` has a model in the store."""
    return bool(run.outputs and run.outputs.model_outputs) and tags.MODEL not in run.data.tags


def delete_models(client: mlflow.MlflowClient, runs: Iterable[Run]) -> None:
    """Delete the models of `runs` with their files, and tag each run; models in the registry stay."""
    for run in runs:
        models = [client.get_logged_model(output.model_id) for output in run.outputs.model_outputs]
        if any(tags.MODEL_VERSIONS in model.tags for model in models):
            continue
        for model in models:
            get_artifact_repository(model.artifact_location).delete_artifacts()
            client.delete_logged_model(model.model_id)
        client.set_tag(run.info.run_id, tags.MODEL, "deleted: not the best of its sweep")
