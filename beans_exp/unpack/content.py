"""The runs, sweeps and studies of a checked file, all validated before the first is written."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from beans_exp.hpo.packed_study import PackedStudy
from beans_exp.tracking import tags
from beans_exp.tracking.packed import PackedRun
from beans_exp.tracking.packed_file import (
    ARTIFACTS,
    MODEL,
    PREDICTIONS,
    RUN,
    RUNS,
    STUDY,
    SWEEPS,
    from_json,
    is_sweep_id,
)
from beans_exp.tracking.redrawn import can_be_drawn
from beans_exp.unpack.archive import Archive, open_archive
from beans_exp.unpack.entries import FOREIGN, Member

NEEDED = {"MLmodel", "data/model.keras"}
MODEL_FILES = NEEDED | {
    *("conda.yaml", "python_env.yaml", "requirements.txt"),
    *("data/keras_module.txt", "data/save_format.txt"),
}
"""The files of a model in Keras' own format."""
LOADER = "mlflow.keras"


@dataclass
class Packed:
    """A run or a parent run of the file with its artifacts and the files of its model, by their paths."""

    folder: str
    run: PackedRun
    artifacts: dict[str, Member] = field(default_factory=dict)
    model: dict[str, Member] = field(default_factory=dict)
    study: PackedStudy | None = None


@dataclass(frozen=True)
class Content:
    """The runs of the file by their packed ids, and its sweeps by their ids."""

    file: Path
    experiment: str
    runs: dict[str, Packed]
    sweeps: dict[str, Packed]


def read_content(file: Path) -> Content:
    """Return the content of `file`; raises BeansExpError, naming member and rule, unless all of it is sound."""
    archive = open_archive(file)
    archive.check()
    found = _folders(archive)
    runs = {name: _read(archive, RUNS, name, members) for name, members in found[RUNS].items()}
    sweeps = {name: _read(archive, SWEEPS, name, members) for name, members in found[SWEEPS].items()}
    return Content(file, archive.facts["experiment"], runs, sweeps)


def _folders(archive: Archive) -> dict[str, dict[str, dict[str, Member]]]:
    """The members by kind, by folder, and by their path in it."""
    found: dict[str, dict[str, dict[str, Member]]] = {RUNS: {}, SWEEPS: {}}
    for name, member in archive.members.items():
        kind, folder, path = [*name.split("/", 2), "", ""][:3]
        if kind not in found or not is_sweep_id(folder) or not _is_known(kind, path):
            raise archive.refuse(name, f"be {RUN} or an artifact of a run or a sweep", FOREIGN)
        found[kind].setdefault(folder, {})[path] = member
    return found


def _is_known(kind: str, path: str) -> bool:
    folder, _, rest = path.partition("/")
    return path == RUN or (path == STUDY and kind == SWEEPS) or bool(rest and folder in _folders_of(kind))


def _folders_of(kind: str) -> tuple[str, ...]:
    return (ARTIFACTS, MODEL) if kind == RUNS else (ARTIFACTS,)


def _read(archive: Archive, kind: str, name: str, members: dict[str, Member]) -> Packed:
    folder = f"{kind}/{name}"
    if RUN not in members:
        raise archive.refuse(f"{folder}/{RUN}", "be in the file")
    packed = Packed(folder, _parsed(archive, f"{folder}/{RUN}", PackedRun.loads))
    packed.artifacts.update(_below(ARTIFACTS, members))
    packed.model.update(_below(MODEL, members))
    is_sweep = packed.run.tags.get(tags.ROLE) == tags.SWEEP_ROLE
    own_name = packed.run.tags.get(tags.SWEEP) if is_sweep else packed.run.id
    if is_sweep != (kind == SWEEPS) or own_name != name:
        raise archive.refuse(f"{folder}/{RUN}", "hold the run or the sweep that its folder is named by")
    if STUDY in members:
        packed.study = _parsed(archive, f"{folder}/{STUDY}", lambda content: PackedStudy.of(from_json(content)))
    _check_pictures(archive, packed)
    _check_model(archive, packed)
    return packed


def _parsed(archive: Archive, name: str, parse: Any) -> Any:
    try:
        return parse(archive.read(name))
    except ValueError as error:
        raise archive.refuse(name, str(error), FOREIGN) from error


def _below(folder: str, members: dict[str, Member]) -> Iterable[tuple[str, Member]]:
    return ((path.removeprefix(f"{folder}/"), one) for path, one in members.items() if path.startswith(f"{folder}/"))


def _check_pictures(archive: Archive, packed: Packed) -> None:
    """Raise if a picture that is to be drawn cannot be, or would replace an artifact."""
    if not packed.run.drawn:
        return
    text = None
    if PREDICTIONS in packed.artifacts:
        text = archive.read(packed.artifacts[PREDICTIONS].name).decode(errors="replace")
    possible = set(can_be_drawn(packed.run, text)) - set(packed.artifacts)
    if impossible := sorted(set(packed.run.drawn) - possible):
        raise archive.refuse(f"{packed.folder}/{RUN}", f"hold the data for drawing {impossible[0]}", FOREIGN)


def _check_model(archive: Archive, packed: Packed) -> None:
    """Raise for a model that is not in Keras' own format: loading another one could run code."""
    if not packed.model:
        return
    name = f"{packed.folder}/{MODEL}"
    if unknown := sorted(set(packed.model) - MODEL_FILES):
        raise archive.refuse(f"{name}/{unknown[0]}", "be a file of a Keras model", FOREIGN)
    if missing := sorted(NEEDED - set(packed.model)):
        raise archive.refuse(f"{name}/{missing[0]}", "be in the file")
    try:
        sound = _loads_keras(yaml.safe_load(archive.read(f"{name}/MLmodel")))
    except (AttributeError, KeyError, TypeError, RecursionError, ValueError, yaml.YAMLError) as error:
        raise archive.refuse(f"{name}/MLmodel", f"describe a Keras model ({type(error).__name__})", FOREIGN) from error
    if not sound:
        raise archive.refuse(f"{name}/MLmodel", "describe a model in Keras' own format, without code", FOREIGN)


def _loads_keras(mlmodel: Any) -> bool:
    """Whether MLflow loads the model by its Keras flavour, from Keras' own format, and nothing else."""
    keras, generic = mlmodel["flavors"]["keras"], mlmodel["flavors"]["python_function"]
    only = set(mlmodel["flavors"]) == {"keras", "python_function"} and generic["loader_module"] == LOADER
    own_format = keras["save_exported_model"] is False and keras["data"] == "data" and "code" not in generic
    return only and own_format and {"classes", "image_size"} <= set(mlmodel["metadata"])
