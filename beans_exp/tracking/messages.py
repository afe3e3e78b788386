"""What a run tells its store, as letters: each can be delivered now or later, and twice without harm."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelOutput, Metric, Param, Run, RunTag
from mlflow.models import Model

from beans_exp.tracking.best_model import Ranked, has_model, keep_best_model

AT_ONCE = 100
"""Parameters that MLflow takes in one request."""
MODEL_ID = "model_id.txt"
"""Beside a model that is being delivered: its id in the store, so that another try goes on with the same one."""


@dataclass(frozen=True)
class Message:
    """One thing to be delivered: its `kind`, one of `KINDS`, its `content`, plain data, and a file or folder."""

    kind: str
    content: dict[str, Any]
    body: Path | None = None


def deliver(client: mlflow.MlflowClient, run_id: str, letter: Message) -> None:
    """Tell the store what `letter` says of the run; raises what MLflow raises."""
    KINDS[letter.kind](client, run_id, letter)


def _metrics(client: mlflow.MlflowClient, run_id: str, letter: Message) -> None:
    """The store drops a point that it has: same name, value, time and step."""
    client.log_batch(run_id, [Metric(*point) for point in letter.content["points"]])


def _params(client: mlflow.MlflowClient, run_id: str, letter: Message) -> None:
    params = [Param(key, value) for key, value in letter.content.items()]
    for start in range(0, len(params), AT_ONCE):
        client.log_batch(run_id, params=params[start : start + AT_ONCE])


def _tags(client: mlflow.MlflowClient, run_id: str, letter: Message) -> None:
    client.log_batch(run_id, tags=[RunTag(key, value) for key, value in letter.content.items()])


def _file(client: mlflow.MlflowClient, run_id: str, letter: Message) -> None:
    client.log_artifact(run_id, str(letter.body), letter.content.get("folder"))


def _data(client: mlflow.MlflowClient, run_id: str, letter: Message) -> None:
    """Told twice where the store lost a race: of runs that make a data set known at once, it takes one."""
    inputs = [DatasetInput(Dataset(**letter.content), [InputTag("mlflow.data.context", "training")])]
    try:
        client.log_inputs(run_id, inputs)
    except mlflow.MlflowException:
        client.log_inputs(run_id, inputs)


def _model(client: mlflow.MlflowClient, run_id: str, letter: Message) -> None:
    run = client.get_run(run_id)
    if has_model(run):
        return
    if letter.content["rank"] is None:
        _log_model(client, run, letter)
    else:
        keep_best_model(client, run_id, Ranked(**letter.content["rank"]), lambda: _log_model(client, run, letter))


def _log_model(client: mlflow.MlflowClient, run: Run, letter: Message) -> None:
    """What MLflow's own `log_model` does with a model that was saved to a folder; the run names it at the very end."""
    assert letter.body is not None
    run_id, note = run.info.run_id, letter.body.with_name(MODEL_ID)
    if not note.is_file():
        made = client.create_logged_model(run.info.experiment_id, "model", run_id, params=run.data.params)
        note.write_text(made.model_id)
    known = client.get_logged_model(note.read_text())
    saved = Model.load(letter.body)
    saved.run_id, saved.model_id, saved.model_uuid = run_id, known.model_id, known.model_id
    saved.artifact_path = known.artifact_location
    saved.save(letter.body / "MLmodel")
    client.log_model_artifacts(known.model_id, str(letter.body))
    client.finalize_logged_model(known.model_id, "READY")
    points = [point for name in run.data.metrics for point in client.get_metric_history(run_id, name) if not point.step]
    own = [Metric(one.key, one.value, one.timestamp, one.step, model_id=known.model_id) for one in points]
    client.log_batch(run_id, own)
    client.log_outputs(run_id, [LoggedModelOutput(known.model_id, step=0)])


def _end(client: mlflow.MlflowClient, run_id: str, letter: Message) -> None:
    client.set_terminated(run_id, letter.content["status"], letter.content["time"])


KINDS: dict[str, Callable[[mlflow.MlflowClient, str, Message], None]] = {
    "metrics": _metrics,
    "params": _params,
    "tags": _tags,
    "file": _file,
    "data": _data,
    "model": _model,
    "end": _end,
}
