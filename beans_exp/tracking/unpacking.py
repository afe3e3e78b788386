"""Packed runs written to a store, so that an interrupted command is finished by the next one.

A run is created with its packed id, filled, and gets its other tags and its status last: until then it has neither a
fingerprint nor a sweep, and nothing reuses, resumes or counts it.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import mlflow
from mlflow.entities import Metric, Run, RunTag
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from beans_exp.tracking import tags
from beans_exp.tracking.best_model import has_model
from beans_exp.tracking.messages import MODEL_ID, TRACEBACK, Message, deliver
from beans_exp.tracking.packed import PackedRun
from beans_exp.tracking.parent_run import newest_run
from beans_exp.tracking.reader import PAGE

POINTS = 1000
"""Values that MLflow takes in one request."""
TESTED = "test/accuracy"


@dataclass(frozen=True)
class KnownRun:
    """A run that is in the store already."""

    run_id: str
    status: str
    """MLflow's own."""
    ended: int
    tags: dict[str, str]
    metrics: frozenset[str]
    artifacts: str
    """Where its artifacts are."""

    @property
    def is_copy(self) -> bool:
        """Whether it was unpacked, not trained in this store."""
        return tags.PACKED in self.tags

    @property
    def lacks_model(self) -> bool:
        """Whether it was unpacked without the model that it had."""
        return self.tags.get(tags.MODEL) == tags.NOT_PACKED

    def knows_less(self, packed: PackedRun) -> bool:
        """Whether `packed` has an end that it lacks, because it was interrupted, or a test."""
        if self.status == "RUNNING":
            return tags.PROCESS not in self.tags  # else it was resumed, and trains here
        if self.status != "FINISHED" and packed.status == "FINISHED":
            return True
        return TESTED in packed.metrics and TESTED not in self.metrics


def known_runs(client: mlflow.MlflowClient, experiment_id: str, wanted: Iterable[str]) -> dict[str, KnownRun]:
    """Return the runs of the experiment that are, or are copies of, the runs with the packed ids `wanted`.

    All copies are among them, also of other packed runs.
    """
    copies = _search(client, experiment_id, f"tags.`{tags.PACKED}` != ''")
    found = {run.data.tags[tags.PACKED]: _known(run) for run in copies}
    missing = [packed for packed in wanted if packed not in found]
    for start in range(0, len(missing), PAGE):
        ids = ", ".join(f"'{packed}'" for packed in missing[start : start + PAGE])
        own = _search(client, experiment_id, f"attributes.run_id IN ({ids})")
        found |= {run.info.run_id: _known(run) for run in own}
    return found


def known_run(client: mlflow.MlflowClient, run_id: str) -> KnownRun:
    """Return a run of the store."""
    return _known(client.get_run(run_id))


def find_parent(client: mlflow.MlflowClient, experiment_id: str, sweep: str) -> str | None:
    """Return the id of the parent run of `sweep`, or None."""
    found = newest_run(client, experiment_id, tags.is_parent_of(sweep))
    return found.info.run_id if found else None


def create_run(client: mlflow.MlflowClient, experiment_id: str, packed: PackedRun) -> str:
    """Create an empty run for `packed` and return its id; a parent run can be found by its sweep at once."""
    run_tags = {tags.PACKED: packed.id}
    if tags.ROLE in packed.tags:
        run_tags |= tags.parent_tags(packed.tags[tags.SWEEP])
    return str(client.create_run(experiment_id, packed.started, run_tags, packed.name).info.run_id)


def fill_run(client: mlflow.MlflowClient, run_id: str, packed: PackedRun, artifacts: Path, model: Path | None) -> None:
    """Write `packed`, the files in the folder `artifacts` and the `model` to the run, then end it as `packed` ended.

    Nothing is written twice. The cause and the traceback of an interruption are deleted when the run finished later.
    """
    before = client.get_run(run_id)
    deliver(client, run_id, Message("params", packed.params))
    log_metrics(client, run_id, packed)
    for dataset in packed.data if not (before.inputs and before.inputs.dataset_inputs) else ():
        deliver(client, run_id, Message("data", {"schema": None, "profile": None} | dataset))
    if any(artifacts.iterdir()):
        client.log_artifacts(run_id, str(artifacts))
    _clear_cause(client, before, packed)
    if model is not None:
        add_model(client, run_id, model)
    has_one = model is not None or has_model(before)
    kept = {key: value for key, value in packed.tags.items() if not (key == tags.MODEL and has_one)}
    client.log_batch(run_id, tags=[RunTag(key, value) for key, value in kept.items()])
    client.set_terminated(run_id, packed.status, packed.ended)


def log_metrics(client: mlflow.MlflowClient, run_id: str, packed: PackedRun) -> None:
    """Log the histories of `packed`; the store ignores the points that it has."""
    points = [Metric(name, value, at, step) for name, found in packed.metrics.items() for step, at, value in found]
    for start in range(0, len(points), POINTS):
        client.log_batch(run_id, metrics=points[start : start + POINTS])


def add_model(client: mlflow.MlflowClient, run_id: str, model: Path) -> None:
    """Log the model in the folder `model` as the run's, unless it has one; an interrupted attempt is continued."""
    run = client.get_run(run_id)
    query = f"source_run_id = '{run_id}'"
    begun = client.search_logged_models([run.info.experiment_id], filter_string=query, max_results=1)
    if begun and not (run.outputs and run.outputs.model_outputs):
        model.with_name(MODEL_ID).write_text(begun[0].model_id)
    if not (run.outputs and run.outputs.model_outputs):
        deliver(client, run_id, Message("model", {"rank": None}, model))
    if tags.MODEL in run.data.tags:
        client.delete_tag(run_id, tags.MODEL)


def set_missing_tags(client: mlflow.MlflowClient, run: KnownRun, wanted: Mapping[str, str]) -> None:
    """Set those of `wanted` that `run` lacks."""
    missing = [RunTag(key, value) for key, value in wanted.items() if key not in run.tags]
    if missing:
        client.log_batch(run.run_id, tags=missing)


def merge_metrics(client: mlflow.MlflowClient, run: KnownRun, packed: PackedRun) -> None:
    """Log the metrics of `packed` that `run` lacks."""
    new = {name: points for name, points in packed.metrics.items() if name not in run.metrics}
    log_metrics(client, run.run_id, replace(packed, metrics=new))


def end_again(client: mlflow.MlflowClient, run: KnownRun, status: str, mlflow_status: str, ended: int) -> None:
    """End a parent run, which has ended, with the status of its merged sweep."""
    client.set_tag(run.run_id, tags.STATUS, status)
    client.set_terminated(run.run_id, mlflow_status, max(ended, run.ended))


def _known(run: Run) -> KnownRun:
    info = run.info
    metrics = frozenset(run.data.metrics)
    return KnownRun(info.run_id, info.status, info.end_time or 0, run.data.tags, metrics, info.artifact_uri)


def _search(client: mlflow.MlflowClient, experiment_id: str, query: str) -> Iterator[Run]:
    token = None
    while token != "":
        page = client.search_runs([experiment_id], query, max_results=PAGE, page_token=token)
        yield from page
        token = page.token or ""


def _clear_cause(client: mlflow.MlflowClient, run: Run, packed: PackedRun) -> None:
    """Delete the cause and the traceback of an earlier end, unless `packed` has its own."""
    if tags.CAUSE in run.data.tags and tags.CAUSE not in packed.tags:
        client.delete_tag(run.info.run_id, tags.CAUSE)
        get_artifact_repository(run.info.artifact_uri).delete_artifacts(TRACEBACK)
