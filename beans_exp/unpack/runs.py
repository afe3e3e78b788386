"""Unpacking one run: its artifacts are extracted and its pictures drawn, then all of it is written to the store."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from beans_exp.files import remove
from beans_exp.tracking.packed import PackedRun
from beans_exp.tracking.packed_file import PREDICTIONS
from beans_exp.tracking.parallel import client_of
from beans_exp.tracking.redrawn import draw
from beans_exp.tracking.unpacking import add_model, fill_run
from beans_exp.unpack.archive import extract
from beans_exp.unpack.entries import Member


@dataclass(frozen=True)
class UnpackJob:
    """A run to be written as `run_id` of the store at `uri`, from members of `file`, by way of a temporary `folder`."""

    file: Path
    uri: str
    folder: Path
    run_id: str
    run: PackedRun
    """With the tags, and the ids in them, that it has in this store."""
    artifacts: Mapping[str, Member]
    model: Mapping[str, Member]
    texts: Mapping[str, str] = field(default_factory=dict)
    """Artifacts that differ from those in the file."""
    model_only: bool = False
    """Whether the run is in the store and lacks its model only."""


def prepare_run(job: UnpackJob) -> None:
    """Write the artifacts of `job`, with its pictures, to its folder; raises BeansExpError if a member is damaged.

    Drawing takes most of the time of unpacking, and is done in several processes.
    """
    folder = job.folder / "artifacts"
    folder.mkdir(parents=True)
    if job.model_only:
        return
    for name, member in job.artifacts.items():
        extract(job.file, member, folder / name)
    for name, text in job.texts.items():
        (folder / name).write_text(text)
    if job.run.drawn:
        predictions = folder / PREDICTIONS
        draw(job.run, predictions.read_text() if predictions.is_file() else None, folder)


def write_run(job: UnpackJob) -> None:
    """Write the prepared run of `job` to its store, and delete its folder; raises what MLflow raises.

    One process writes: several get in each other's way in an SQLite store.
    """
    model = job.folder / "model"
    for name, member in job.model.items():
        extract(job.file, member, model / name)
    if job.model_only:
        add_model(client_of(job.uri), job.run_id, model)
    else:
        fill_run(client_of(job.uri), job.run_id, job.run, job.folder / "artifacts", model if job.model else None)
    remove(job.folder)
