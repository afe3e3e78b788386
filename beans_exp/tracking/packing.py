"""A run read from a store to be packed: everything that was logged of it, its files, its model."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
from mlflow.entities import Run
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

from beans_exp.temporary import temporary_folder
from beans_exp.tracking import tags
from beans_exp.tracking.packed import PackedRun, Point, travels
from beans_exp.tracking.parallel import client_of
from beans_exp.tracking.store_errors import store_errors

RUNNING = ("RUNNING", "SCHEDULED")


def packed_id(run: Run) -> str:
    """Return the id under which `run` is packed: that of the store where it was trained."""
    return str(run.data.tags.get(tags.PACKED, run.info.run_id))


def read_run(uri: str, run_id: str) -> PackedRun:
    """Return all that was logged of a run, as it is in the store at `uri`, but for the tags that do not travel.

    A parent run whose sweep has not ended is packed as killed. Raises StoreError if the store cannot be read.
    """
    with store_errors(uri):
        client = client_of(uri)
        run = client.get_run(run_id)
        histories = {name: _history(client, run_id, name) for name in sorted(run.data.metrics)}
    status, run_tags = run.info.status, {key: value for key, value in run.data.tags.items() if travels(key)}
    if status in RUNNING:
        status, run_tags[tags.STATUS] = "KILLED", "killed"
    return PackedRun(
        packed_id(run),
        run.info.run_name or "",
        status,
        run.info.start_time,
        run.info.end_time or run.info.start_time,
        dict(run.data.params),
        run_tags,
        histories,
        [_dataset(each.dataset) for each in run.inputs.dataset_inputs] if run.inputs else [],
    )


@contextmanager
def local_files(address: str) -> Iterator[dict[str, Path]]:
    """Yield the files at an artifact address by their relative paths; those of a server are downloaded meanwhile.

    Links are left out: their targets are not part of the run.
    """
    with temporary_folder() as temporary:
        repository = get_artifact_repository(address)
        local = isinstance(repository, LocalArtifactRepository)
        with store_errors(address):
            folder = Path(repository.artifact_dir if local else repository.download_artifacts("", str(temporary)))
        yield dict(sorted(_files(folder)))


def model_address(uri: str, run_id: str) -> str:
    """Return the artifact address of the newest model of a run that has one; raises StoreError."""
    with store_errors(uri):
        outputs = client_of(uri).get_run(run_id).outputs.model_outputs
        newest = max(outputs, key=lambda output: output.step)
        return str(client_of(uri).get_logged_model(newest.model_id).artifact_location)


def _history(client: mlflow.MlflowClient, run_id: str, name: str) -> list[Point]:
    points = {(point.step, point.timestamp, float(point.value)) for point in client.get_metric_history(run_id, name)}
    return sorted(points, key=lambda point: (*point[:2], str(point[2])))


def _dataset(dataset: mlflow.entities.Dataset) -> dict[str, str | None]:
    return {key: value for key, value in sorted(dict(dataset).items()) if value is not None}


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not Path(parent, name).is_symlink()]
        for path in (Path(parent, name) for name in names):
            if path.is_file() and not path.is_symlink():
                yield path.relative_to(folder).as_posix(), path
