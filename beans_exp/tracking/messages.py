"""Messages about a run and their delivery to its store; delivering one twice has no further effect."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LoggedModel,
    LoggedModelOutput,
    Metric,
    Param,
    Run,
    RunTag,
)
from mlflow.models import Model
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from beans_exp.files import DamagedError, read_json, write_json
from beans_exp.tracking import tags
from beans_exp.tracking.best_model import Ranked, has_model, keep_best_model

TRACEBACK = "traceback.txt"
BATCH = 100
"""Parameters that MLflow accepts in one request."""
MODEL_ID = "model_id.json"
"""The file next to a model that is being delivered: its id in the store, which a retry uses again."""


@dataclass(frozen=True)
class Message:
    """A message: its `kind`, a key of `KINDS`, its `content` as plain data, and its `body`, a file or folder."""

    kind: str
    content: dict[str, Any]
    body: Path | None = None


def deliver(client: mlflow.MlflowClient, run_id: str, message: Message) -> None:
    """Write `message` about the run `run_id` to the store; raises what MLflow raises."""
    KINDS[message.kind](client, run_id, message)


def _metrics(client: mlflow.MlflowClient, run_id: str, message: Message) -> None:
    """The store ignores a point that it has: same name, value, time and step.

    A message about a run of which nobody knows what it has logged says `once`: steps that the store has are left out.
    """
    points = [Metric(*point) for point in message.content["points"]]
    if message.content.get("once"):
        points = [one for one in points if one.step not in _steps(client, run_id, one.key)]
    client.log_batch(run_id, points)


def _steps(client: mlflow.MlflowClient, run_id: str, name: str) -> set[int]:
    return {point.step for point in client.get_metric_history(run_id, name)}


def _params(client: mlflow.MlflowClient, run_id: str, message: Message) -> None:
    params = [Param(key, value) for key, value in message.content.items()]
    for start in range(0, len(params), BATCH):
        client.log_batch(run_id, params=params[start : start + BATCH])


def _tags(client: mlflow.MlflowClient, run_id: str, message: Message) -> None:
    client.log_batch(run_id, tags=[RunTag(key, value) for key, value in message.content.items()])


def _file(client: mlflow.MlflowClient, run_id: str, message: Message) -> None:
    client.log_artifact(run_id, str(message.body), message.content.get("folder"))


def clear_cause(client: mlflow.MlflowClient, run_id: str) -> None:
    """Delete cause and traceback of a run that is resumed, or has finished."""
    run = client.get_run(run_id)
    if tags.CAUSE not in run.data.tags:
        return
    if TRACEBACK in {item.path for item in client.list_artifacts(run_id)}:
        get_artifact_repository(run.info.artifact_uri).delete_artifacts(TRACEBACK)
    client.delete_tag(run_id, tags.CAUSE)


def _data(client: mlflow.MlflowClient, run_id: str, message: Message) -> None:
    """Retry once: of several runs that log a new data set at the same moment, the store accepts one."""
    inputs = [DatasetInput(Dataset(**message.content), [InputTag(tags.DATA_CONTEXT, "training")])]
    try:
        client.log_inputs(run_id, inputs)
    except mlflow.MlflowException:
        client.log_inputs(run_id, inputs)


def _model(client: mlflow.MlflowClient, run_id: str, message: Message) -> None:
    run = client.get_run(run_id)
    if has_model(run):
        return
    if message.content["rank"] is None:
        _log_model(client, run, message)
    else:
        keep_best_model(client, run_id, Ranked(**message.content["rank"]), lambda: _log_model(client, run, message))


def _log_model(client: mlflow.MlflowClient, run: Run, message: Message) -> None:
    """Log a model that was saved to a folder as MLflow's `log_model` would; it becomes the run's output at the end."""
    assert message.body is not None
    run_id, id_file = run.info.run_id, message.body.with_name(MODEL_ID)
    try:
        model_id = read_json(id_file)["model_id"]
    except (FileNotFoundError, DamagedError):
        begun = client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run_id}'")
        model_id = (begun[0] if begun else _create_model(client, run)).model_id
        write_json(id_file, {"model_id": model_id})
    logged = client.get_logged_model(model_id)
    saved = Model.load(message.body)
    saved.run_id, saved.model_id, saved.model_uuid = run_id, logged.model_id, logged.model_id
    saved.artifact_path = logged.artifact_location
    saved.save(message.body / "MLmodel")
    client.log_model_artifacts(logged.model_id, str(message.body))
    client.finalize_logged_model(logged.model_id, "READY")
    points = [point for name in run.data.metrics for point in client.get_metric_history(run_id, name) if not point.step]
    own = [Metric(one.key, one.value, one.timestamp, one.step, model_id=logged.model_id) for one in points]
    client.log_batch(run_id, own)
    client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])


def _create_model(client: mlflow.MlflowClient, run: Run) -> LoggedModel:
    return client.create_logged_model(run.info.experiment_id, "model", run.info.run_id, params=run.data.params)


def _end(client: mlflow.MlflowClient, run_id: str, message: Message) -> None:
    """End the run; one that finished after all keeps no cause of an earlier process, whoever wrote it."""
    if message.content["status"] == "FINISHED":
        clear_cause(client, run_id)
    client.set_terminated(run_id, message.content["status"], message.content["time"])


KINDS: dict[str, Callable[[mlflow.MlflowClient, str, Message], None]] = {
    "metrics": _metrics,
    "params": _params,
    "tags": _tags,
    "file": _file,
    "data": _data,
    "model": _model,
    "end": _end,
}
