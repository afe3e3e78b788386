"""The model of a run as members of the file, without the places that it was saved in."""

from pathlib import Path

import yaml

from beans_exp.pack.archive import ArchiveWriter
from beans_exp.pack.members import PackJob
from beans_exp.pack.portable import Scrubber
from beans_exp.tracking.packed_file import MAX_MODEL, MODEL, is_portable_path
from beans_exp.tracking.packing import local_files, model_address

MLMODEL = "MLmodel"
"""MLflow's description of a model."""
PLACES = ("run_id", "model_id", "model_uuid", "artifact_path")
"""The keys of `MLmodel` that say where the model is; they are written anew when it is unpacked."""


def add_model(writer: ArchiveWriter, job: PackJob) -> list[str]:
    """Add the newest model of the run of `job`, and return a note for each file that was left out."""
    notes = []
    with local_files(model_address(job.uri, job.run.run_id)) as files:
        for name, file in files.items():
            member = f"{job.folder}/{MODEL}/{name}"
            if is_portable_path(name) and file.stat().st_size <= MAX_MODEL:
                _add_file(writer, member, file, job.scrubber)
            else:
                notes.append(f"left out {member}: it is too large, or has no portable name")
    return notes


def _add_file(writer: ArchiveWriter, member: str, file: Path, scrubber: Scrubber) -> None:
    if file.name == MLMODEL:
        writer.add(member, _portable_mlmodel(file.read_text(), scrubber))
    elif file.suffix in (".txt", ".yaml"):
        writer.add(member, scrubber.text(file.read_text()).encode())
    else:
        writer.add_file(member, file)


def _portable_mlmodel(text: str, scrubber: Scrubber) -> bytes:
    described = {key: value for key, value in yaml.safe_load(text).items() if key not in PLACES}
    return yaml.safe_dump(scrubber.tree(described), sort_keys=True).encode()
