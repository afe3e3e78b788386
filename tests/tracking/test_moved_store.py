"""A store that was moved or copied: the next command finds its artifacts beside it."""

import logging
import shutil
from pathlib import Path

import mlflow
import pytest

from beans_exp.schema import TrackingConfig
from beans_exp.tracking.reader import open_reader
from beans_exp.tracking.store import open_store, store_uri

pytestmark = pytest.mark.xdist_group("moved")


def _uri(folder: Path) -> str:
    return store_uri(TrackingConfig(uri=f"sqlite:///{folder}/mlruns/mlflow.db"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a run that has an artifact, made once: MLflow takes seconds to create a store."""
    folder = tmp_path_factory.mktemp("made") / "a project"
    experiment_id = open_store(_uri(folder), "beans_exp")
    client = mlflow.MlflowClient(_uri(folder))
    run = client.create_run(experiment_id)
    client.log_text(run.info.run_id, "text", "note.txt")
    return folder


@pytest.fixture
def project(made: Path, tmp_path: Path) -> Path:
    """A copy of the project whose first command has been run."""
    folder = tmp_path / "a project"
    shutil.copytree(made, folder)
    assert _note(folder) == "text"
    return folder


def _note(folder: Path) -> str | None:
    reader = open_reader(_uri(folder), "beans_exp")
    (record,) = reader.records()
    return reader.artifact(record.artifacts, "note.txt")


def test_a_moved_store_finds_its_artifacts_and_writes_beside_itself(
    project: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    moved = tmp_path / "b"
    project.rename(moved)
    with caplog.at_level(logging.WARNING, "beans_exp"):
        assert _note(moved) == "text"
        assert _note(moved) == "text"
    (line,) = (record.message for record in caplog.records if "moved" in record.message)
    assert line == f"the store was moved from {project}/mlruns to {moved}/mlruns: 3 addresses follow it"
    client = mlflow.MlflowClient(_uri(moved))
    run = client.create_run(open_store(_uri(moved), "beans_exp"))
    client.log_text(run.info.run_id, "text", "note.txt")
    assert not project.exists()
    assert run.info.artifact_uri.startswith(f"{moved.as_uri()}/mlruns/artifacts/beans_exp/")


def test_a_moved_store_without_artifacts_follows_too(project: Path, tmp_path: Path) -> None:
    shutil.rmtree(project / "mlruns" / "artifacts")
    project.rename(tmp_path / "b")
    open_store(_uri(tmp_path / "b"), "beans_exp")
    found = mlflow.MlflowClient(_uri(tmp_path / "b")).get_experiment_by_name("beans_exp")
    assert found is not None and found.artifact_location == f"{(tmp_path / 'b').as_uri()}/mlruns/artifacts/beans_exp"


def test_a_copy_reads_its_own_artifacts(project: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(project, copy)
    shutil.rmtree(project / "mlruns" / "artifacts" / "beans_exp")
    assert _note(copy) == "text"
    assert _note(project) is None


def test_artifacts_that_are_elsewhere_on_purpose_stay_there(project: Path, tmp_path: Path) -> None:
    (tmp_path / "mlruns").mkdir()
    (project / "mlruns" / "mlflow.db").rename(tmp_path / "mlruns" / "mlflow.db")
    assert _note(tmp_path) == "text"


def test_a_link_to_the_folder_is_no_move(project: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "link").symlink_to(project)
    with caplog.at_level(logging.WARNING, "beans_exp"):
        assert _note(tmp_path / "link") == "text"
    assert not [record for record in caplog.records if "moved" in record.message]
