"""Finished runs that can be reused in place of training."""

import logging
from statistics import median

import mlflow
from mlflow.entities import Run

from beans_exp.schema import Config
from beans_exp.tracking.best_model import NOT_BEST, has_model, selected_value
from beans_exp.tracking.params import flat_params

log = logging.getLogger(__name__)

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


def reusable_metrics(
    experiment_id: str, config: Config, fingerprint: str, *, quiet: bool = False
) -> dict[str, float] | None:
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


def typical_seconds(experiment_id: str, config: Config) -> float | None:
    """Return the median time of the last finished runs that cost the same as `config`; None where there is none."""
    params = flat_params(config)
    same = " and ".join(f"params.`{key}` = '{params[key]}'" for key in COSTLY)
    found = _finished(mlflow.MlflowClient(), experiment_id, same)[:10]
    seconds = [run.data.metrics["time/total_seconds"] for run in found if "time/total_seconds" in run.data.metrics]
    return median(seconds) if seconds else None


def find_untested(experiment_id: str, fingerprint: str) -> str | None:
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
    return {name: selected_value(client, run, config.trainer.select, name) for name in config.objective.metrics}
