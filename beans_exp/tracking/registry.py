"""The model of a run: found by any name a user has for it, fetched, loaded in safe mode, registered under an alias."""

import contextlib
import io
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import yaml
from mlflow.entities import Run, ViewType
from mlflow.store.artifact.utils.models import get_model_name_and_version

from beans_exp.errors import BeansExpError
from beans_exp.tracking.best_model import NOT_BEST, has_model

if TYPE_CHECKING:
    import keras

FORMS = "a run id, models:/NAME@ALIAS, models:/NAME/VERSION, models:/m-ID or runs:/RUN_ID/model"
AGAIN = "Train it again with if_exists=rerun tracking.save_model=all"


@dataclass(frozen=True)
class SavedModel:
    """A model in the store."""

    name: str
    """As the user calls it."""
    source: str
    """`models:/m-ID`, what the registry's versions point at."""
    location: str
    """The URI of its folder."""


@dataclass(frozen=True)
class FetchedModel:
    """A model whose files are at hand, and what its metadata say."""

    name: str
    folder: Path
    classes: tuple[str, ...]
    image_size: int


def find_model(client: mlflow.MlflowClient, name: str) -> SavedModel:
    """Return the model that `name` means: one of `FORMS`; of a run id the beginning is enough.

    Raises BeansExpError, naming the way out, where there is none.
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
    run = _run(client, run_id)
    if wanted not in ("", "model"):
        raise BeansExpError(f"{name}: a run's model is named model: runs:/{run.info.run_id}/model")
    if not has_model(run):
        raise BeansExpError(f"the run {run.info.run_id} has no model: {_why_no_model(run)}")
    newest = max(run.outputs.model_outputs, key=lambda output: output.step)
    return _logged_model(client, newest.model_id, name)


def _run(client: mlflow.MlflowClient, run_id: str) -> Run:
    """The run whose id begins with `run_id`: tables show eight characters of it."""
    found: list[Run] = []
    if run_id.isalnum():
        found = client.search_runs(_everywhere(client), f"attributes.run_id LIKE '{run_id}%'", ViewType.ALL, 3)
    if not found:
        raise BeansExpError(f"there is no run {run_id} in {mlflow.get_tracking_uri()}. {_newest_runs(client)}")
    if len(found) > 1:
        ids = ", ".join(run.info.run_id for run in found)
        raise BeansExpError(f"{run_id} is the beginning of several run ids: {ids}. Give more of it")
    (run,) = found
    if run.info.lifecycle_stage == "deleted":
        raise BeansExpError(f"the run {run.info.run_id} was deleted: mlflow runs restore --run-id {run.info.run_id}")
    return run


def _everywhere(client: mlflow.MlflowClient) -> list[str]:
    return [experiment.experiment_id for experiment in client.search_experiments(ViewType.ALL)]


def _newest_runs(client: mlflow.MlflowClient) -> str:
    """A few runs that can be meant."""
    query = "attributes.status = 'FINISHED' and tags.`beans.fingerprint` != ''"
    newest_first = ["attributes.start_time DESC"]
    runs = client.search_runs(_everywhere(client), query, max_results=3, order_by=newest_first)
    listed = ", ".join(f"{run.info.run_id} ({run.info.run_name})" for run in runs)
    return f"The newest finished runs: {listed}" if listed else "It has no finished runs"


def _why_no_model(run: Run) -> str:
    """The reason, and the way out."""
    status = run.data.tags.get("beans.status", "running")
    if run.data.tags.get("beans.role") == "sweep":
        return "it is the parent of a sweep. Give one of its runs"
    if status == "running":
        return "it has not ended, or was killed; the model is saved at the end"
    if status != "finished":
        return f"it ended as {status}. {AGAIN}"
    return f"{run.data.tags.get(NOT_BEST, 'tracking.save_model was none')}. {AGAIN}"


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
        raise BeansExpError(f"{name} is not in the registry ({_first_line(error)}). {listed}") from error


@contextmanager
def fetched(model: SavedModel) -> Iterator[FetchedModel]:
    """Give the files of `model`, for the length of the block those of a remote store.

    Raises BeansExpError where files are missing, and for a model that is not one of this project's.
    """
    with tempfile.TemporaryDirectory(prefix="beans_exp-") as temporary:
        target = None if model.location.startswith(("file:", "/")) else temporary
        try:
            folder = mlflow.artifacts.download_artifacts(model.location, dst_path=target)
            recorded = _recorded(Path(folder))
        except (mlflow.MlflowException, OSError, yaml.YAMLError) as error:
            reason = _first_line(error)
            message = f"{model.name}: the model's files cannot be read at {model.location} ({reason}). {AGAIN}"
            raise BeansExpError(message) from error
        metadata = recorded.get("metadata") or {}
        if not {"classes", "image_size"} <= set(metadata):
            raise BeansExpError(f"{model.name}: its metadata lack classes and image_size; it is no model of beans_exp")
        yield FetchedModel(model.name, Path(folder), tuple(metadata["classes"]), int(metadata["image_size"]))


def _recorded(folder: Path) -> dict[str, Any]:
    """What MLflow wrote about the model in `folder`; its own reader takes longer to import than to read."""
    return yaml.safe_load((folder / "MLmodel").read_text()) or {}


def load(model: FetchedModel) -> "keras.Model":
    """Return `model` uncompiled: images float32 (b, S, S, 3) in 0..255 -> logits (b, classes).

    Keras' safe mode builds its own layers only. Raises BeansExpError for a model that holds code, or is damaged.
    """
    import keras

    flavour = _recorded(model.folder).get("flavors", {}).get("keras", {})
    if flavour.get("save_exported_model", True):  # TensorFlow would run whatever graph it holds
        raise BeansExpError(f"{model.name} is not in Keras' own format, which can be loaded safely")
    file = model.folder / flavour["data"] / "model.keras"
    if not zipfile.is_zipfile(file):
        raise BeansExpError(f"{model.name}: {file} is missing or damaged. {AGAIN}")
    try:
        return keras.saving.load_model(file, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises many types, all of them for a file that is damaged or not allowed
        reason = _first_line(error).split(". ")[0]  # what follows is how to switch the safety off
        raise BeansExpError(f"{model.name} cannot be loaded in Keras' safe mode: {reason}") from error


def model_of_run(client: mlflow.MlflowClient, run_id: str) -> "keras.Model":
    """Return the model that a run saved, uncompiled; raises BeansExpError where none was saved, or it does not load."""
    with fetched(find_model(client, run_id)) as model:
        return load(model)


def register(client: mlflow.MlflowClient, model: SavedModel, name: str, alias: str) -> str:
    """Set `alias` on the version of `name` that is `model`, registered where it is not yet; return that version.

    Raises BeansExpError for a name or an alias that MLflow does not take.
    """
    try:
        version = _version(client, model, name) or _registered(model, name)
        client.set_registered_model_alias(name, alias, version)
    except mlflow.MlflowException as error:
        raise BeansExpError(f"{name}@{alias} cannot be registered: {_first_line(error)}") from error
    return version


def _version(client: mlflow.MlflowClient, model: SavedModel, name: str) -> str | None:
    """The version of `name` that is `model` already."""
    found = client.search_model_versions(f"name = '{name}'")
    return next((str(version.version) for version in found if version.source == model.source), None)


def _registered(model: SavedModel, name: str) -> str:
    with contextlib.redirect_stderr(io.StringIO()):  # MLflow says in two lines what the caller says in one
        return str(mlflow.register_model(model.source, name).version)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
