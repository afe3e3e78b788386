"""Saved models: found by any name that users have for them, fetched, loaded in safe mode, registered under an alias."""

import contextlib
import io
import re
import shlex
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import yaml
from mlflow.entities import Run, ViewType
from mlflow.store.artifact.utils.models import get_model_name_and_version

from beans_exp.data.pixels import PLAIN, Pixels, from_metadata
from beans_exp.errors import BeansExpError, first_line
from beans_exp.temporary import temporary_folder
from beans_exp.tracking import tags
from beans_exp.tracking.best_model import has_model

if TYPE_CHECKING:
    import keras

LOADER = "mlflow.keras"
"""What MLflow records as the loader of a model that this project saved."""
FORMS = "a run id, models:/NAME@ALIAS, models:/NAME/VERSION, models:/m-ID or runs:/RUN_ID/model"
AGAIN = "Train it again with if_exists=rerun tracking.save_model=all"
PACK_AGAIN = f"Pack it with --models all and unpack that file, too. {AGAIN}"


@dataclass(frozen=True)
class SavedModel:
    """A model in the store."""

    name: str
    """As the user wrote it."""
    source: str
    """`models:/m-ID`, the source of versions in the registry."""
    location: str
    """The URI of its folder."""


@dataclass(frozen=True)
class FetchedModel:
    """A model whose files are local, and its metadata."""

    name: str
    folder: Path
    classes: tuple[str, ...]
    image_size: int
    pixels: Pixels = PLAIN
    """How its training images were decoded, fitted and resized."""


def find_model(client: mlflow.MlflowClient, name: str) -> SavedModel:
    """Return the model that `name`, one of `FORMS`, refers to; the beginning of a run id is enough.

    Raises BeansExpError, naming the way out, if it does not exist.
    """
    scheme, _, rest = name.rpartition(":/")
    rest = rest.strip("/")
    if scheme in ("", "runs"):
        run_id, _, wanted = rest.partition("/")
        return _model_of_run(client, run_id, wanted, name)
    if scheme != "models":
        raise BeansExpError(f"{name}: must be {FORMS}")
    if "/" in rest or "@" in rest:
        return _registered_model(client, name)
    return _logged_model(client, rest, name)


def _model_of_run(client: mlflow.MlflowClient, run_id: str, wanted: str, name: str) -> SavedModel:
    run = find_run(client, run_id)
    if wanted not in ("", "model"):
        raise BeansExpError(f"{name}: a run's model is named model: runs:/{run.info.run_id}/model")
    if not has_model(run):
        raise BeansExpError(f"the run {run.info.run_id} has no model: {_why_no_model(run)}")
    newest = max(run.outputs.model_outputs, key=lambda output: output.step)
    return _logged_model(client, newest.model_id, name)


def find_run(client: mlflow.MlflowClient, run_id: str, kind: str = "run") -> Run:
    """Return the run whose id begins with `run_id`; tables show eight characters.

    Raises BeansExpError, which lists runs to choose from, if no `kind` has that id, or several have.
    """
    found: list[Run] = []
    if run_id.isalnum():
        found = client.search_runs(_everywhere(client), f"attributes.run_id LIKE '{run_id}%'", ViewType.ALL, 3)
    if not found:
        raise BeansExpError(f"there is no {kind} {run_id} in {mlflow.get_tracking_uri()}. {_newest_runs(client)}")
    if len(found) > 1:
        ids = ", ".join(run.info.run_id for run in found)
        raise BeansExpError(f"{run_id} is the beginning of several run ids: {ids}. Give more of it")
    (run,) = found
    if run.info.lifecycle_stage == "deleted":
        where = f"MLFLOW_TRACKING_URI={shlex.quote(mlflow.get_tracking_uri())}"
        way_out = f"{where} mlflow runs restore --run-id {run.info.run_id}"
        raise BeansExpError(f"the run {run.info.run_id} was deleted: {way_out}")
    return run


def _everywhere(client: mlflow.MlflowClient) -> list[str]:
    return [experiment.experiment_id for experiment in client.search_experiments(ViewType.ALL)]


def _newest_runs(client: mlflow.MlflowClient) -> str:
    """The sentence that lists some runs to choose from."""
    query = f"attributes.status = 'FINISHED' and tags.`{tags.FINGERPRINT}` != ''"
    newest_first = ["attributes.start_time DESC"]
    runs = client.search_runs(_everywhere(client), query, max_results=3, order_by=newest_first)
    listed = ", ".join(f"{run.info.run_id} ({run.info.run_name})" for run in runs)
    return f"The newest finished runs: {listed}" if listed else "It has no finished runs"


def _why_no_model(run: Run) -> str:
    """The reason why `run` has no model, and the way out."""
    status = run.data.tags.get(tags.STATUS, "running")
    if run.data.tags.get(tags.ROLE) == tags.SWEEP_ROLE:
        return "it is the parent of a sweep. Give one of its runs"
    if status == "running":
        return "it has not ended, or was killed; the model is saved at the end"
    if status != "finished":
        return f"it ended as {status}. {AGAIN}"
    reason = run.data.tags.get(tags.MODEL, "tracking.save_model was none")
    return f"{reason}. {PACK_AGAIN if reason == tags.NOT_PACKED else AGAIN}"


def _logged_model(client: mlflow.MlflowClient, model_id: str, name: str) -> SavedModel:
    try:
        model = client.get_logged_model(model_id)
    except mlflow.MlflowException as error:
        raise BeansExpError(f"{name}: the model {model_id} does not exist or was deleted. {AGAIN}") from error
    return SavedModel(name, f"models:/{model_id}", model.artifact_location)


def _registered_model(client: mlflow.MlflowClient, name: str) -> SavedModel:
    try:
        model, version = get_model_name_and_version(client, name)
        source = client.get_model_version(model, version).source
        return SavedModel(name, source, client.get_model_version_download_uri(model, version))
    except mlflow.MlflowException as error:
        known = [f"models:/{each.name}@{alias}" for each in client.search_registered_models() for alias in each.aliases]
        listed = f"It has {', '.join(known)}" if known else "Register one: python -m beans_exp.promote RUN_ID"
        raise BeansExpError(f"{name} is not in the registry ({first_line(error, 300)}). {listed}") from error


@contextmanager
def fetched(model: SavedModel) -> Iterator[FetchedModel]:
    """Yield the files of `model`; those of a remote store are deleted when the block ends.

    Raises BeansExpError for missing files, and for a model that this project did not save.
    """
    with temporary_folder() as temporary:
        target = None if model.location.startswith(("file:", "/")) else str(temporary)
        try:
            folder = mlflow.artifacts.download_artifacts(model.location, dst_path=target)
            mlmodel = _read_mlmodel(Path(folder))
        except (mlflow.MlflowException, OSError, yaml.YAMLError) as error:
            reason = first_line(error, 300)
            message = f"{model.name}: the model's files cannot be read at {model.location} ({reason}). {AGAIN}"
            raise BeansExpError(message) from error
        metadata = mlmodel.get("metadata") or {}
        if not {"classes", "image_size"} <= set(metadata):
            raise BeansExpError(f"{model.name}: its metadata lack classes and image_size; it is no model of beans_exp")
        pixels = from_metadata(metadata.get("pixels") or {})
        yield FetchedModel(model.name, Path(folder), tuple(metadata["classes"]), int(metadata["image_size"]), pixels)


def _read_mlmodel(folder: Path) -> dict[str, Any]:
    """The description that MLflow wrote of the model in `folder`; importing MLflow's own reader takes longer."""
    return yaml.safe_load((folder / "MLmodel").read_text()) or {}


def load(model: FetchedModel) -> "keras.Model":
    """Return `model` uncompiled: images float32 (b, S, S, 3) in 0..255 -> logits (b, classes).

    Keras' safe mode builds its own layers only, and those of modules in the command line's `--config-dir`. Raises
    BeansExpError for a model that contains code or is damaged.
    """
    import keras

    from beans_exp.models.user_classes import user_classes

    flavours = _read_mlmodel(model.folder).get("flavors") or {}
    flavour = flavours.get("keras") or {}
    if flavour.get("save_exported_model", True):  # TensorFlow would run any graph in it
        raise BeansExpError(f"{model.name} is not in Keras' own format, which can be loaded safely")
    _require_mlflows_loader(model.name, flavours.get("python_function") or {})
    file = model.folder / flavour["data"] / "model.keras"
    if not zipfile.is_zipfile(file):
        raise BeansExpError(f"{model.name}: {file} is missing or damaged. {AGAIN}")
    try:
        return keras.saving.load_model(file, custom_objects=user_classes(), compile=False, safe_mode=True)
    except Exception as error:  # Keras raises many types for files that are damaged or forbidden
        if missing := re.search(r"Could not locate class '(\w+)'", str(error)):
            way_out = "Give the folder of the module that defines it: --config-dir DIR"
            raise BeansExpError(f"{model.name}: its class {missing[1]} is not one of Keras'. {way_out}") from error
        reason = first_line(error, 300).split(". ")[0]  # Keras goes on to explain how to disable safe mode
        raise BeansExpError(f"{model.name} cannot be loaded in Keras' safe mode: {reason}") from error


def _require_mlflows_loader(name: str, flavour: Mapping[str, Any]) -> None:
    """Raise BeansExpError unless MLflow, where it serves the model, runs only its own loader of Keras models."""
    if flavour.get("loader_module") != LOADER or flavour.get("code"):
        raise BeansExpError(f"{name} brings code that would run where it is served; beans_exp saves none. {AGAIN}")


def model_of_run(client: mlflow.MlflowClient, run_id: str) -> "keras.Model":
    """Return the model that a run saved, uncompiled; raises BeansExpError if it saved none, or it cannot be loaded."""
    with fetched(find_model(client, run_id)) as model:
        return load(model)


def register(client: mlflow.MlflowClient, model: SavedModel, name: str, alias: str) -> str:
    """Set `alias` on the version of `name` that is `model`, registered now if it is not; return that version.

    Raises BeansExpError for a name or an alias that MLflow rejects.
    """
    try:
        version = _version(client, model, name) or _registered(model, name)
        client.set_registered_model_alias(name, alias, version)
    except mlflow.MlflowException as error:
        raise BeansExpError(f"{name}@{alias} cannot be registered: {first_line(error, 300)}") from error
    return version


def _version(client: mlflow.MlflowClient, model: SavedModel, name: str) -> str | None:
    """The existing version of `name` that is `model`."""
    found = client.search_model_versions(f"name = '{name}'")
    return next((str(version.version) for version in found if version.source == model.source), None)


def _registered(model: SavedModel, name: str) -> str:
    with contextlib.redirect_stderr(io.StringIO()):  # the caller prints the same in one line
        return str(mlflow.register_model(model.source, name).version)
