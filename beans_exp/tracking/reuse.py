"""Finished runs that are reused instead of trained again."""

import logging
from statistics import median

import mlflow
from mlflow.entities import Run

from beans_exp.schema import Config
from beans_exp.tracking import tags
from beans_exp.tracking.best_model import has_model, selected_value
from beans_exp.tracking.params import flat_params

log = logging.getLogger(__name__)

COST_PARAMS = (
    "model.name",
    "model.arch",
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
"""Parameters that determine how long a run takes."""


def reusable_metrics(
    experiment_id: str, config: Config, fingerprint: str, *, quiet: bool = False
) -> dict[str, float] | None:
    """Return the objective's metrics, in the selected epoch, of a finished run with `fingerprint`; None without one.

    A run without a test or a model that `config` asks for is not reused.
    """
    client = mlflow.MlflowClient()
    for run in _finished(client, experiment_id, tags.equals(tags.FINGERPRINT, fingerprint)):
        tested = "test/accuracy" in run.data.metrics or not config.trainer.test
        if tested and _has_wanted_model(run, config.tracking.save_model):
            if not quiet:
                log.info("reusing finished run %s (if_exists=rerun trains again)", run.info.run_id)
            select = config.trainer.select
            return {name: selected_value(client, run, select, name) for name in config.objective.metrics}
    return None


def typical_seconds(experiment_id: str, config: Config) -> float | None:
    """Return the median duration of the last ten finished runs with the same `COST_PARAMS`; None without one."""
    params = flat_params(config)
    logged = [key for key in COST_PARAMS if key != "model.arch" or params[key] != "null"]  # older runs lack it
    query = " and ".join(f"params.`{key}` = '{params[key]}'" for key in logged)
    found = _finished(mlflow.MlflowClient(), experiment_id, query)[:10]
    seconds = [run.data.metrics["time/total_seconds"] for run in found if "time/total_seconds" in run.data.metrics]
    return median(seconds) if seconds else None


def find_untested(experiment_id: str, fingerprint: str) -> str | None:
    """Return the newest finished run with `fingerprint` that has a model; None if it, or a newer one, was tested."""
    for run in _finished(mlflow.MlflowClient(), experiment_id, tags.equals(tags.FINGERPRINT, fingerprint)):
        if "test/accuracy" in run.data.metrics:
            return None
        if has_model(run):
            return run.info.run_id
    return None


def _finished(client: mlflow.MlflowClient, experiment_id: str, query: str) -> list[Run]:
    """The finished runs matching `query`, the newest first."""
    finished = f"{query} and attributes.status = 'FINISHED'"
    return [*client.search_runs([experiment_id], finished, order_by=["attributes.start_time DESC"])]


def _has_wanted_model(run: Run, save_model: str) -> bool:
    """Whether `run` has the model that `tracking.save_model` asks for.

    With `best`, a better run may have it; the model of a run that was unpacked without it is where it was trained.
    """
    reason = run.data.tags.get(tags.MODEL)
    return (
        save_model == "none" or has_model(run) or reason == tags.NOT_PACKED or (save_model == "best" and bool(reason))
    )
