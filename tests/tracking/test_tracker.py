"""What a run leaves in MLflow, on both backends; how it ends; when it is reused; which stores are refused."""

import csv
import io
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import keras
import mlflow
import numpy as np
import pytest
import tensorflow as tf
import yaml
from matplotlib.axes import Axes
from mlflow.entities import Run

from beans_exp import run as run_module
from beans_exp.data import load, source
from beans_exp.errors import StoreError
from beans_exp.run import run
from beans_exp.schema import (
    Config,
    DataConfig,
    FinetuneConfig,
    KernelConfig,
    ModelConfig,
    RegConfig,
    SweepConfig,
    TrackingConfig,
    TrainerConfig,
)
from beans_exp.tracking import figures
from beans_exp.tracking.best_model import has_model
from beans_exp.tracking.store import open_store, store_uri
from beans_exp.tracking.tracker import default_name
from tests.conftest import TINY, Started
from tests.servers import mlflow_server

CLASSES = ["angular_leaf_spot", "bean_rust", "healthy"]
CONFIG = Config(
    data=DataConfig(name="synthetic", image_size=32, train_images=12, validation_images=6, test_images=6, draw_seed=0),
    kernel=KernelConfig(filters=[2, 2, 4]),
    reg=RegConfig(name="l2", l2=0.01),
    trainer=TrainerConfig(epochs=2, batch_size=8),
    seed=3,
)
METRICS = {f"{part}/{name}" for part in ("train", "val", "test") for name in ("loss", "accuracy", "cross_entropy")} | {
    "time/epoch_seconds",
    "stage",
    "best/val_accuracy",
    "best/epoch",
    "eval/train_accuracy",
    "gap/accuracy",
    "gap/eval_accuracy",
    "time/total_seconds",
    "time/ms_per_image",
    "memory/peak_rss_mb",
    "model/parameters",
    "model/trainable_parameters",
    "model/macs",
    "model/size_mb",
}
ARTIFACTS = {
    "config.yaml",
    "overrides.yaml",
    "curves.png",
    "confusion_matrix.png",
    "predictions.csv",
    "model_summary.txt",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an MLflow server of the test's own, started by the README's words."""
    with mlflow_server(tmp_path_factory.mktemp("server")) as started:
        yield started.address


@pytest.fixture(params=["local", "server"])
def finished(request: pytest.FixtureRequest) -> tuple[mlflow.MlflowClient, Run, float]:
    """A run that is finished, on each backend: the client, the run, its objective."""
    uri = request.getfixturevalue("server") if request.param == "server" else None
    config = replace(CONFIG, tracking=TrackingConfig(uri=uri, experiment="contract"), if_exists="rerun")
    objective = run(config, ["reg=l2", "seed=3"])
    assert isinstance(objective, float)
    client = mlflow.MlflowClient(store_uri(config.tracking))
    return client, _runs(client, "contract")[0], objective


def _runs(client: mlflow.MlflowClient, experiment: str) -> list[Run]:
    found = client.get_experiment_by_name(experiment)
    return list(client.search_runs([found.experiment_id])) if found else []


def _local_runs(config: Config = CONFIG) -> list[Run]:
    return _runs(mlflow.MlflowClient(store_uri(config.tracking)), config.tracking.experiment)


def test_a_run_keeps_the_contract(finished: tuple[mlflow.MlflowClient, Run, float]) -> None:
    client, done, objective = finished
    _require_described(client, done, objective)
    _require_artifacts(client, done)
    _require_model(done)


def _require_described(client: mlflow.MlflowClient, done: Run, objective: float) -> None:
    params, tags, metrics = done.data.params, done.data.tags, done.data.metrics
    assert (params["model.name"], params["reg.l2"], params["kernel.filters"]) == ("lenet", "0.01", "[2, 2, 4]")
    assert not [key for key, value in params.items() if "/" in value and key != "objective.name"], (
        "a path of the machine"
    )
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
    assert list(rows[0]) == ["index", "label", "predicted", *(f"p_{name}" for name in CLASSES)]
    assert [int(row["index"]) for row in rows] == list(range(6))
    right = sum(row["label"] == row["predicted"] for row in rows)
    assert right / 6 == pytest.approx(done.data.metrics["test/accuracy"])
    for row in rows:
        probabilities = [float(row[f"p_{name}"]) for name in CLASSES]
        assert sum(probabilities) == pytest.approx(1, abs=1e-5)
        assert row["predicted"] == CLASSES[int(np.argmax(probabilities))]


def _require_model(done: Run) -> None:
    """The saved model classifies raw images as training did, by Keras' flavour and by pyfunc."""
    uri = f"runs:/{done.info.run_id}/model"
    info = mlflow.models.get_model_info(uri)
    assert info.metadata == {"classes": CLASSES, "image_size": 32}
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


def test_a_finished_run_is_reused_and_can_be_trained_again() -> None:
    first = run(CONFIG)
    renamed = replace(CONFIG, reg=replace(CONFIG.reg, name="other"), run_name="again")
    assert run(renamed) == first, "labels decide nothing"
    assert len(_local_runs()) == 1
    assert run(replace(CONFIG, if_exists="rerun")) == pytest.approx(first, abs=0.2)
    assert len(_local_runs()) == 2
    assert _local_runs()[0].data.tags["beans.fingerprint"] == _local_runs()[1].data.tags["beans.fingerprint"]


def test_a_runs_name_tells_what_was_chosen() -> None:
    tuned = Config(model=ModelConfig("inception", None, "mixed5"), finetune=FinetuneConfig(blocks=4), seed=3)
    assert default_name(tuned) == "inception-mixed5-top4-seed3"
    assert default_name(replace(tuned, model=ModelConfig("inception", None, "mixed10"))) == "inception-top4-seed3"
    assert default_name(Config(reg=RegConfig(name="l2"))) == "lenet-l2-seed0"


def test_a_run_in_less_memory_is_the_same_run_and_says_so() -> None:
    run(replace(CONFIG, trainer=replace(CONFIG.trainer, microbatch=3)))
    run(CONFIG)
    (done,) = _local_runs()
    assert done.data.tags["beans.microbatch"] == "3"


def test_a_finished_run_without_test_or_model_is_no_substitute_for_one_with_them() -> None:
    lean = replace(CONFIG, tracking=TrackingConfig(save_model="none"), trainer=replace(CONFIG.trainer, test=False))
    run(lean)
    metrics = _local_runs()[0].data.metrics
    assert set(metrics) == {name for name in METRICS if not name.startswith("test/")} - {"time/ms_per_image"}
    run(CONFIG)
    assert len(_local_runs()) == 2
    run(lean)
    assert len(_local_runs()) == 2


def test_reuse_returns_the_selected_epochs_objective() -> None:
    config = replace(CONFIG, trainer=replace(CONFIG.trainer, select="best", epochs=3, learning_rate=0.05))
    assert run(config) == run(config) == _local_runs()[0].data.metrics["best/val_accuracy"]


def test_only_the_best_model_of_a_sweep_is_kept() -> None:
    tracking, sweep = TrackingConfig(save_model="best"), SweepConfig(id="s")
    values = [run(replace(CONFIG, tracking=tracking, sweep=sweep, seed=seed)) for seed in range(3)]
    kept = [done for done in _local_runs() if has_model(done)]
    assert [done.data.metrics["val/accuracy"] for done in kept] == [max(values)]
    assert len(list(Path("mlruns/artifacts").rglob("model.keras"))) == 1


def test_a_sweeps_best_model_is_not_chosen_among_those_that_confirm_it() -> None:
    sweep = SweepConfig(id="s")
    run(replace(CONFIG, sweep=sweep, seed=9))
    for seed in range(2):
        run(replace(CONFIG, tracking=TrackingConfig(save_model="best"), sweep=sweep, seed=seed))
    kept = [done.data.params["seed"] for done in _local_runs() if has_model(done)]
    assert len(kept) == 2 and "9" in kept


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
def test_no_run_stays_running(error: BaseException, status: str, ended: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(run_module, "evaluate", fail)
    with pytest.raises(type(error)):
        run(CONFIG)
    (done,) = _local_runs()
    assert (done.info.status, done.data.tags["beans.status"]) == (ended, status)
    assert type(error).__name__ in done.data.tags["beans.cause"]
    assert "Traceback" in mlflow.artifacts.load_text(f"{done.info.artifact_uri}/traceback.txt")
    assert "val/accuracy" in done.data.metrics, "what was recorded stays"


def test_a_terminated_program_closes_its_run_as_killed(started: Started, tmp_path: Path) -> None:
    process = started(*TINY, "trainer.epochs=100000", "trainer.batch_size=4", until="Epoch 3/")
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 128 + signal.SIGTERM
    assert "Traceback" not in (tmp_path / "log").read_text()
    (done,) = _local_runs()
    assert (done.info.status, done.data.tags["beans.status"]) == ("KILLED", "killed")


def test_a_diverged_run_says_so_and_costs_no_traceback(
    program: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    ended = program(*TINY, "trainer.optimizer=sgd", "trainer.learning_rate=1e38", "trainer.epochs=3")
    assert ended.returncode == 1
    assert "error: the loss became" in ended.stderr
    assert "in epoch" in ended.stderr
    assert "Traceback" not in ended.stderr
    (done,) = _local_runs()
    assert (done.info.status, done.data.tags["beans.status"]) == ("FAILED", "diverged")


def test_several_processes_open_a_fresh_store_at_once(tmp_path: Path) -> None:
    code = "from beans_exp.tracking.store import *; from beans_exp.schema import TrackingConfig as T; "
    code += "print(open_store(store_uri(T()), 'shared'))"
    processes = [
        subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(8)
    ]
    answers = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0] * 8, answers
    assert len({out for out, _ in answers}) == 1


def _set_revision(file: Path) -> None:
    with sqlite3.connect(file) as database:
        database.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
    database.close()


def _drop_table(file: Path) -> None:
    _set_revision(file)
    with sqlite3.connect(file) as database:
        database.execute("DROP TABLE latest_metrics")
    database.close()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_set_revision, ["mlflow.db", "another version of MLflow wrote it"]),
        (_drop_table, ["mlflow.db", "another version of MLflow wrote it"]),
        (lambda file: file.write_text("not a database"), ["mlflow.db", "is not an SQLite database"]),
    ],
)
def test_a_store_that_cannot_be_understood_is_named_and_left_alone(
    damage: Callable[[Path], object], words: list[str]
) -> None:
    open_store(store_uri(TrackingConfig()), "fine")
    file = Path("moved/mlflow.db")  # MLflow checks a store once in a process: this one is new to it
    shutil.copytree("mlruns", "moved")
    damage(file)
    before = file.read_bytes()
    with pytest.raises(StoreError) as error:
        open_store(f"sqlite:///{file.resolve()}", "fine")
    for word in words:
        assert word in str(error.value)
    assert "\n" not in str(error.value)
    assert file.read_bytes() == before


def test_a_store_that_cannot_be_written_is_named() -> None:
    Path("mlruns").write_text("a file in the folder's place")
    with pytest.raises(StoreError, match=r"mlruns.*cannot be written"):
        open_store(store_uri(TrackingConfig()), "fine")


def test_a_server_that_does_not_answer_is_named_within_seconds() -> None:
    started = time.monotonic()
    with pytest.raises(StoreError, match=r"no MLflow server answers at http://127\.0\.0\.1:9 .*tracking=local"):
        open_store("http://127.0.0.1:9", "fine")
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("name", ["../../evil", "/absolute", "a/b", "..", "plain name"])
def test_artifacts_stay_in_the_store_whatever_the_experiments_name(name: str) -> None:
    uri = store_uri(TrackingConfig())
    place = mlflow.MlflowClient(uri).get_experiment(open_store(uri, name)).artifact_location
    folder = Path(url2pathname(urlsplit(place).path)).resolve()
    assert folder.parent == Path("mlruns/artifacts").resolve()


def test_a_folder_whose_name_mlflow_cannot_open_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("a%20b").mkdir()
    monkeypatch.chdir("a%20b")
    with pytest.raises(StoreError, match="has % in its path"):
        open_store(store_uri(TrackingConfig()), "fine")


def test_a_database_without_its_driver_is_named() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        pytest.raises(StoreError, match="needs a driver that is not installed"),
    ):
        open_store(f"mysql+pymysql://127.0.0.1:{server.getsockname()[1]}/none", "fine")


def test_a_database_that_does_not_answer_is_named_in_seconds() -> None:
    started = time.monotonic()
    with pytest.raises(StoreError, match=r"no database answers at 127\.0\.0\.1:9 "):
        open_store("postgresql+psycopg2://me@127.0.0.1:9/none", "fine")
    assert time.monotonic() - started < 10


def test_a_deleted_experiment_is_named() -> None:
    uri = store_uri(TrackingConfig())
    mlflow.MlflowClient(uri).delete_experiment(open_store(uri, "old"))
    with pytest.raises(StoreError, match=r"old was deleted.*tracking\.experiment"):
        open_store(uri, "old")


def _lines(axes: Axes, word: str) -> list[float]:
    return [float(np.ravel(line.get_xdata())[0]) for line in axes.lines if word in str(line.get_label())]


def test_the_curves_are_the_reports_and_mark_the_second_stage() -> None:
    names = [f"{part}/{metric}" for part in ("train", "val") for metric in ("loss", "accuracy")]
    epochs = [dict.fromkeys(names, 0.5) | {"stage": stage} for stage in (1, 1, 1, 2, 2)]
    loss, accuracy = figures.curves(epochs, selected=5).axes
    for axes in (loss, accuracy):
        colours = {str(line.get_label()): line.get_color() for line in axes.lines}
        assert (colours["train"], colours["validation"]) == ("tab:red", "tab:blue")
        assert _lines(axes, "fine-tuning") == [3.5]
        assert _lines(axes, "selected") == [5]
    assert (loss.get_title(), accuracy.get_title()) == ("loss", "accuracy")


def test_the_confusion_matrix_counts_labels_by_predictions() -> None:
    labels, predicted = np.array([0, 0, 1, 2]), np.array([0, 1, 1, 0])
    (axes,) = figures.confusion_matrix(labels, predicted, CLASSES).axes
    counts = np.asarray(axes.images[0].get_array())
    assert counts.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]
    assert "2 of 4 right" in axes.get_title()


def test_threads_do_not_need_signals() -> None:
    """A launcher may run jobs in threads; the store is opened there as well."""
    answers: list[str] = []
    thread = threading.Thread(target=lambda: answers.append(open_store(store_uri(TrackingConfig()), "threads")))
    thread.start()
    thread.join()
    assert len(answers) == 1
