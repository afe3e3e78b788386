"""Unpacking one run: members are extracted and checked again, pictures drawn, and all of it written to the store."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from beans_exp.tracking.packed import PackedRun
from beans_exp.tracking.packed_file import PREDICTIONS
from beans_exp.tracking.parallel import client_of
from beans_exp.tracking.redrawn import draw
from beans_exp.tracking.store_errors import store_errors
from beans_exp.tracking.unpacking import add_model, fill_run
from beans_exp.unpack.archive import extract
from beans_exp.unpack.entries import Member


@dataclass(frozen=True)
class UnpackJob:
    """A run to be written as `run_id` of the store at `uri`, from members of `file`."""

    file: Path
    uri: str
    run_id: str
    run: PackedRun
    """With the tags, and the ids in them, that it has in this store."""
    artifacts: Mapping[str, Member]
    model: Mapping[str, Member]
    texts: Mapping[str, str] = field(default_factory=dict)
    """Artifacts that are not as they are in the file."""
    model_only: bool = False
    """Whether the run is in the store and lacks its model only."""


def unpack_run(job: UnpackJob) -> None:
    """Write the run of `job` to its store; raises BeansExpError if a member is damaged, StoreError if that fails."""
    with tempfile.TemporaryDirectory(prefix="beans_exp-") as temporary:
        artifacts, model = Path(temporary, "artifacts"), Path(temporary, "model")
        for folder, members in ((artifacts, job.artifacts), (model, job.model)):
            folder.mkdir()
            for name, member in members.items() if folder is model or not job.model_only else ():
                extract(job.file, member, folder / name)
        with store_errors(job.uri):
            if job.model_only:
                add_model(client_of(job.uri), job.run_id, model)
                return
            _prepare(job, artifacts)
            fill_run(client_of(job.uri), job.run_id, job.run, artifacts, model if job.model else None)


def _prepare(job: UnpackJob, folder: Path) -> None:
    """Write the artifacts that are made here: tables with ids of this store, and pictures."""
    for name, text in job.texts.items():
        (folder / name).write_text(text)
    if job.run.drawn:
        predictions = folder / PREDICTIONS
        draw(job.run, predictions.read_text() if predictions.is_file() else None, folder)
