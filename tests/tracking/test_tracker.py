"""What a run writes to MLflow, on both backends, and how it ends."""

import csv
import io
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import keras
import mlflow
import numpy as np
import pytest
import tensorflow as tf
import yaml
from mlflow.entities import Run

from beans_exp import run as run_module
from beans_exp.data import load, source
from beans_exp.run import run
from beans_exp.schema import Config, FinetuneConfig, ModelConfig, RegConfig, TrackingConfig
from beans_exp.tracking.store import store_uri
from beans_exp.tracking.tracker import default_name
from tests.conftest import TINY, Started
from tests.servers import mlflow_server
from tests.tracking.contract import ARTIFACTS, CLASSES, CONFIG, METRICS, local_runs, runs_of


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an MLflow server, started with the README's command."""
    with mlflow_server(tmp_path_factory.mktemp("server")) as started:
        yield started.address


@pytest.fixture(params=["local", "server"])
def finished(request: pytest.FixtureRequest) -> tuple[mlflow.MlflowClient, Run, float]:
    """A finished run on each backend: client, run and objective."""
    uri = request.getfixturevalue("server") if request.param == "server" else None
    config = replace(CONFIG, tracking=TrackingConfig(uri=uri, experiment="contract"), if_exists="rerun")
    objective = run(config, ["reg=l2", "seed=3"])
    assert isinstance(objective, float)
    client = mlflow.MlflowClient(store_uri(config.tracking))
    return client, runs_of(client, "contract")[0], objective


def test_a_run_logs_everything_in_the_contract(finished: tuple[mlflow.MlflowClient, Run, float]) -> None:
    client, done, objective = finished
    _require_described(client, done, objective)
    _require_artifacts(client, done)
    _require_model(done)


def _require_described(client: mlflow.MlflowClient, done: Run, objective: float) -> None:
    params, tags, metrics = done.data.params, done.data.tags, done.data.metrics
    assert (params["model.name"], params["reg.l2"], params["kernel.filters"]) == ("lenet", "0.01", "[2, 2, 4]")
    assert not [key for key, value in params.items() if "/" in value and key != "objective.name"], "a local path"
    assert set(metrics) == METRICS
    for name in ("train/loss", "val/accuracy", "stage", "time/epoch_seconds"):
        assert [point.step for point in client.get_metric_history(done.info.run_id, name)] == [1, 2]
    assert objective == metrics["val/accuracy"]
    assert metrics["gap/accuracy"] == pytest.approx(metrics["train/accuracy"] - metrics["val/accuracy"])
    assert metrics["model/parameters"] == metrics["model/trainable_parameters"]
    assert (done.info.status, tags["beans.status"]) == ("FINISHED", "finished")
    assert len(tags["beans.fingerprint"]) == 16
    assert tags["beans.version.keras"] == keras.__version__
    assert tags["beans.precision"] == "float32"
    assert int(tags["beans.threads"]) <= (os.cpu_count() or 1)
    assert "beans.weights" not in tags
    dataset = done.inputs.dataset_inputs[0].dataset
    described = source(CONFIG.data)
    assert (dataset.name, dataset.digest) == ("synthetic", described.digest[:16])
    assert described.version in dataset.source


def _require_artifacts(client: mlflow.MlflowClient, done: Run) -> None:
    run_id = done.info.run_id
    assert {item.path for item in client.list_artifacts(run_id)} == ARTIFACTS
    folder = Path(client.download_artifacts(run_id, ""))
    assert yaml.safe_load((folder / "config.yaml").read_text())["reg"]["l2"] == 0.01
    assert yaml.safe_load((folder / "overrides.yaml").read_text()) == ["reg=l2", "seed=3"]
    assert "conv3" in (folder / "model_summary.txt").read_text()
    for name in ("curves.png", "confusion_matrix.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
    rows = list(csv.DictReader(io.StringIO((folder / "predictions.csv").read_text())))
    assert list(rows[0]) == ["index", "label", "predicted", *(f"p_{name}" for name in CLASSES), "image"]
    assert [int(row["index"]) for row in rows] == list(range(6))
    right = sum(row["label"] == row["predicted"] for row in rows)
    assert right / 6 == pytest.approx(done.data.metrics["test/accuracy"])
    for row in rows:
        probabilities = [float(row[f"p_{name}"]) for name in CLASSES]
        assert sum(probabilities) == pytest.approx(1, abs=1e-5)
        assert row["predicted"] == CLASSES[int(np.argmax(probabilities))]


def _require_model(done: Run) -> None:
    """Keras' flavour and pyfunc load a model that classifies raw images as the test did."""
    uri = f"runs:/{done.info.run_id}/model"
    info = mlflow.models.get_model_info(uri)
    assert info.metadata is not None
    assert {"classes": CLASSES, "image_size": 32}.items() <= info.metadata.items()
    (images,), (logits,) = info.signature.inputs.to_dict(), info.signature.outputs.to_dict()
    assert images["tensor-spec"] == {"dtype": "float32", "shape": (-1, 32, 32, 3)}
    assert logits["tensor-spec"] == {"dtype": "float32", "shape": (-1, 3)}
    test = load(CONFIG, source(CONFIG.data)).test
    raw = np.asarray(test.images, np.float32)
    by_keras = mlflow.keras.load_model(uri).predict(raw, verbose=0)
    by_pyfunc = mlflow.pyfunc.load_model(uri).predict(raw)
    np.testing.assert_allclose(by_keras, by_pyfunc, atol=1e-6)
    accuracy = (by_keras.argmax(axis=1) == test.labels).mean()
    assert accuracy == pytest.approx(done.data.metrics["test/accuracy"])


def test_a_run_is_named_after_its_choices() -> None:
    tuned = Config(model=ModelConfig("inception", None, "mixed5"), finetune=FinetuneConfig(blocks=4), seed=3)
    assert default_name(tuned) == "inception-mixed5-top4-seed3"
    assert default_name(replace(tuned, model=ModelConfig("inception", None, "mixed10"))) == "inception-top4-seed3"
    assert default_name(Config(reg=RegConfig(name="l2", l2=0.01))) == "lenet-l2-seed0"


def test_a_microbatch_keeps_the_fingerprint_and_is_tagged() -> None:
    run(replace(CONFIG, trainer=replace(CONFIG.trainer, microbatch=3)))
    run(CONFIG)
    (done,) = local_runs()
    assert done.data.tags["beans.microbatch"] == "3"


@pytest.mark.parametrize(
    ("error", "status", "ended"),
    [
        (ValueError("no such layer"), "failed", "FAILED"),
        (MemoryError("too large"), "oom", "FAILED"),
        (tf.errors.ResourceExhaustedError(None, None, "too large"), "oom", "FAILED"),
        (KeyboardInterrupt(), "killed", "KILLED"),
        (SystemExit(143), "killed", "KILLED"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_an_error_ends_the_run_with_status_and_cause(
    error: BaseException, status: str, ended: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(run_module, "evaluate", fail)
    with pytest.raises(type(error)):
        run(CONFIG)
    (done,) = local_runs()
    assert (done.info.status, done.data.tags["beans.status"]) == (ended, status)
    assert type(error).__name__ in done.data.tags["beans.cause"]
    assert "Traceback" in mlflow.artifacts.load_text(f"{done.info.artifact_uri}/traceback.txt")
    assert "val/accuracy" in done.data.metrics, "epochs before the error are kept"


def test_a_terminated_program_ends_its_run_as_killed(started: Started, tmp_path: Path) -> None:
    process = started(*TINY, "trainer.epochs=100000", "trainer.batch_size=4", until="Epoch 3/")
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 128 + signal.SIGTERM
    assert "Traceback" not in (tmp_path / "log").read_text()
    (done,) = local_runs()
    assert (done.info.status, done.data.tags["beans.status"]) == ("KILLED", "killed")


def test_a_diverged_run_ends_in_one_line(
    program: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    ended = program(*TINY, "trainer.optimizer=sgd", "trainer.learning_rate=1e38", "trainer.epochs=3")
    assert ended.returncode == 1
    assert "error: the loss became" in ended.stderr
    assert "in epoch" in ended.stderr
    assert "Traceback" not in ended.stderr
    (done,) = local_runs()
    assert (done.info.status, done.data.tags["beans.status"]) == ("FAILED", "diverged")
