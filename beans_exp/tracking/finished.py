"""Finished runs read back: what can be reused, and which of a sweep's models is the best so far."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import median

import mlflow
from mlflow.entities import Run
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from beans_exp.schema import Config
from beans_exp.schema.names import EPOCH_METRICS, OBJECTIVES
from beans_exp.tracking.params import flat_params

log = logging.getLogger(__name__)

REGISTERED = "mlflow.modelVersions"
"""MLflow's tag of a model that is in its registry."""
COSTLY = (
    "model.name",
    "model.top_block",
    "kernel.size",
    "kernel.filters",
    "finetune.blocks",
    "finetune.epochs",
    "data.name",
    "data.image_size",
    "data.train_fraction",
    "trainer.epochs",
    "trainer.precision",
)
"""The parameters that a run's time hangs on."""
NOT_BEST = "beans.model"
"""The tag of a run whose model is not there because `tracking.save_model=best` kept a better one."""


def reusable(experiment_id: str, config: Config, fingerprint: str, *, quiet: bool = False) -> dict[str, float] | None:
    """Return the objective's metrics of a finished run that is the same as `config`; None where there is none.

    A run that lacks its test figures or its model, and is asked for them, is not the same.
    """
    client = mlflow.MlflowClient()
    for run in _finished(client, experiment_id, f"tags.`beans.fingerprint` = '{fingerprint}'"):
        tested = "test/accuracy" in run.data.metrics or not config.trainer.test
        if tested and _has_what_is_kept(run, config.tracking.save_model):
            if not quiet:
                log.info("reused run %s: the same run is finished (if_exists=rerun trains again)", run.info.run_id)
            return selected_metrics(client, run, config)
    return None


def usual_seconds(experiment_id: str, config: Config) -> float | None:
    """Return the median time of the last finished runs that cost the same as `config`; None where there is none."""
    params = flat_params(config)
    same = " and ".join(f"params.`{key}` = '{params[key]}'" for key in COSTLY)
    found = _finished(mlflow.MlflowClient(), experiment_id, same)[:10]
    seconds = [run.data.metrics["time/total_seconds"] for run in found if "time/total_seconds" in run.data.metrics]
    return median(seconds) if seconds else None


def untested(experiment_id: str, fingerprint: str) -> str | None:
    """Return the newest finished run with `fingerprint` that has a model; None where it, or a newer one, was tested."""
    for run in _finished(mlflow.MlflowClient(), experiment_id, f"tags.`beans.fingerprint` = '{fingerprint}'"):
        if "test/accuracy" in run.data.metrics:
            return None
        if has_model(run):
            return run.info.run_id
    return None


def _finished(client: mlflow.MlflowClient, experiment_id: str, query: str) -> list[Run]:
    """The finished runs that `query` finds, the last started first."""
    whole = f"{query} and attributes.status = 'FINISHED'"
    return [*client.search_runs([experiment_id], whole, order_by=["attributes.start_time DESC"])]


def _has_what_is_kept(run: Run, keep: str) -> bool:
    """Whether `run` has the model that `tracking.save_model` asks for; with `best`, or lost to a better one."""
    return keep == "none" or has_model(run) or (keep == "best" and NOT_BEST in run.data.tags)


def selected_metrics(client: mlflow.MlflowClient, run: Run, config: Config) -> dict[str, float]:
    """Return the objective's metrics of `run`; those logged by epoch are the selected epoch's."""
    return {name: _selected(client, run, config.trainer.select, name) for name in config.objective.metrics}


def _selected(client: mlflow.MlflowClient, run: Run, select: str, name: str) -> float:
    if name not in EPOCH_METRICS or select == "last":
        return float(run.data.metrics[name])
    step = run.data.metrics["best/epoch"]
    return next(float(point.value) for point in client.get_metric_history(run.info.run_id, name) if point.step == step)


@dataclass(frozen=True)
class Ranked:
    """A run's place among those of its sweep: the metric they are compared by, of the epoch they select, its value."""

    sweep: str | None
    metric: str
    select: str
    value: float


def keep_best_model(client: mlflow.MlflowClient, run_id: str, rank: Ranked, save: Callable[[], None]) -> None:
    """Call `save` if the run's value beats that of every sibling in the sweep that has a model; delete their models.

    Of two that are saved at the same moment one is left, too.
    """
    own = _sign(rank) * rank.value
    if any(value >= own for value, _ in _rivals(client, run_id, rank)):
        client.set_tag(run_id, NOT_BEST, "not saved: not the best of its sweep")
        return
    save()
    rivals = {(value, run.info.run_id): run for value, run in _rivals(client, run_id, rank)}
    rivals[own, run_id] = client.get_run(run_id)
    delete_models(client, (rivals[place] for place in sorted(rivals)[:-1]))


def _rivals(client: mlflow.MlflowClient, run_id: str, rank: Ranked) -> list[tuple[float, Run]]:
    """The other runs that the best model is chosen among and that have one, with their values, higher is better.

    Those that confirm a search are not among them, and keep theirs.
    """
    query = f"tags.`beans.sweep` = '{rank.sweep}' and params.`tracking.save_model` = 'best'"
    found = client.search_runs([client.get_run(run_id).info.experiment_id], query)
    others = [run for run in found if run.info.run_id != run_id and has_model(run)]
    return [(_sign(rank) * _selected(client, run, rank.select, rank.metric), run) for run in others]


def _sign(rank: Ranked) -> int:
    return 1 if OBJECTIVES[rank.metric] == "maximize" else -1


def has_model(run: Run) -> bool:
    """Whether a model of `run` is in the store."""
    return bool(run.outputs and run.outputs.model_outputs) and NOT_BEST not in run.data.tags


def delete_models(client: mlflow.MlflowClient, runs: Iterable[Run]) -> None:
    """Delete the models of `runs`, their files too; a tag on each run says so. Models in the registry stay."""
    for run in runs:
        models = [client.get_logged_model(output.model_id) for output in run.outputs.model_outputs]
        if any(REGISTERED in model.tags for model in models):
            continue
        for model in models:
            get_artifact_repository(model.artifact_location).delete_artifacts()
            client.delete_logged_model(model.model_id)
        client.set_tag(run.info.run_id, NOT_BEST, "deleted: not the best of its sweep")
