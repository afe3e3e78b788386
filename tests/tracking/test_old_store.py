"""A store that an earlier version wrote, before `eval/train_accuracy` and `gap/eval_accuracy`, is read as before."""

import json
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from PIL import Image

from beans_exp.data import load, source
from beans_exp.models import build_model
from beans_exp.predict import main as predict
from beans_exp.promote import main as promote
from beans_exp.report.__main__ import main as report
from beans_exp.schema import TrackingConfig
from beans_exp.tracking.messages import Message, deliver
from beans_exp.tracking.model import save_model
from beans_exp.tracking.reader import open_reader
from beans_exp.tracking.reuse import reusable_metrics, typical_seconds
from beans_exp.tracking.store import open_store, store_uri
from tests.tracking.contract import CLASSES, CONFIG

pytestmark = pytest.mark.xdist_group("old store")  # written once for all
FINGERPRINT = "50332bc21d0c0283"
STARTED, ENDED = 1795816983462, 1795816989149
PARAMS = {
    "model.name": "lenet",
    "model.weights": "null",
    "model.top_block": "null",
    "reg.name": "l2",
    "reg.l1": "0.0",
    "reg.l2": "0.01",
    "reg.dropout": "0.0",
    "reg.augment": "[]",
    "reg.label_smoothing": "0.0",
    "reg.aux_weight": "0.0",
    "kernel.name": "k5",
    "kernel.size": "5",
    "kernel.filters": "[2, 2, 4]",
    "kernel.factorized": "false",
    "finetune.name": "none",
    "finetune.blocks": "0",
    "finetune.epochs": "6",
    "finetune.learning_rate": "1.0e-05",
    "finetune.schedule": "constant",
    "data.name": "synthetic",
    "data.image_size": "32",
    "data.train_fraction": "1.0",
    "data.train_images": "12",
    "data.validation_images": "6",
    "data.test_images": "6",
    "data.draw_seed": "0",
    "trainer.name": "study",
    "trainer.epochs": "2",
    "trainer.batch_size": "8",
    "trainer.optimizer": "adam",
    "trainer.learning_rate": "0.001",
    "trainer.select": "last",
    "trainer.patience": "null",
    "trainer.deterministic": "false",
    "trainer.precision": "float32",
    "trainer.microbatch": "null",
    "trainer.test": "true",
    "tracking.name": "local",
    "tracking.experiment": "beans_exp",
    "tracking.save_model": "all",
    "objective.name": "val/accuracy",
    "objective.direction": "maximize",
    "confirm.top": "3",
    "confirm.seeds": "3",
    "study": "null",
    "seed": "3",
    "if_exists": "reuse",
}
TAGS = {
    "mlflow.user": "root",
    "mlflow.source.type": "LOCAL",
    "mlflow.runName": "lenet-l2-seed3",
    "beans.fingerprint": FINGERPRINT,
    "beans.precision": "float32",
    "beans.process": "vm/71163cf9-adf5-479c-9ad5-33f61e3d4510/4026531836/4032/1795816965.27",
    "beans.threads": "2",
    "beans.version.beans-exp": "0.1.0",
    "beans.version.mlflow": "3.17.2",
    "beans.status": "finished",
}
EPOCHS = {
    "train/accuracy": [0.25, 0.4167],
    "train/cross_entropy": [1.1022, 1.1006],
    "train/loss": [1.1731, 1.1699],
    "val/accuracy": [0.3333, 0.3333],
    "val/cross_entropy": [1.0987, 1.0989],
    "val/loss": [1.1682, 1.1669],
    "time/epoch_seconds": [1.5, 0.1],
    "stage": [1.0, 1.0],
}
METRICS = {
    "test/loss": 1.1661,
    "test/accuracy": 0.1667,
    "test/cross_entropy": 1.0981,
    "time/ms_per_image": 2.16,
    "best/val_accuracy": 0.3333,
    "best/epoch": 1.0,
    "gap/accuracy": 0.0833,
    "model/parameters": 861.0,
    "model/trainable_parameters": 861.0,
    "model/macs": 128150.0,
    "model/size_mb": 0.003444,
    "memory/peak_rss_mb": 930.6,
    "time/total_seconds": 3.97,
}
PREDICTIONS = """index,label,predicted,p_angular_leaf_spot,p_bean_rust,p_healthy
0,healthy,bean_rust,0.331682,0.334876,0.333442
1,angular_leaf_spot,bean_rust,0.332516,0.333797,0.333687
2,bean_rust,healthy,0.327704,0.335771,0.336525
3,healthy,bean_rust,0.332728,0.333718,0.333554
4,angular_leaf_spot,bean_rust,0.331992,0.334456,0.333552
5,bean_rust,bean_rust,0.332556,0.333748,0.333696
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder whose `mlruns/` has the tables and files of the earlier version, and the id of its only run."""
    folder = tmp_path_factory.mktemp("old")
    mlruns = folder / "mlruns"
    mlruns.mkdir()
    (mlruns / "mlflow.lock").touch()
    uri = f"sqlite:///{mlruns / 'mlflow.db'}"
    SqlAlchemyStore(uri, (mlruns / "artifacts").as_uri()).engine.dispose()
    client = mlflow.MlflowClient(uri)
    experiment = client.create_experiment("beans_exp", (mlruns / "artifacts" / "beans_exp").as_uri())
    run_id = client.create_run(experiment, STARTED, TAGS, "lenet-l2-seed3").info.run_id
    points = [Metric(name, value, STARTED, 0) for name, value in METRICS.items()]
    points += [Metric(name, value, STARTED, 1 + i) for name, values in EPOCHS.items() for i, value in enumerate(values)]
    client.log_batch(run_id, points, [Param(key, value) for key, value in PARAMS.items()])
    _log_files(client, run_id, folder)
    client.set_terminated(run_id, "FINISHED", ENDED)
    return folder, run_id


def _log_files(client: mlflow.MlflowClient, run_id: str, folder: Path) -> None:
    """Log the data set, the predictions and a model of the run."""
    config = replace(CONFIG, data=replace(CONFIG.data, cache_dir=str(folder / "cache")))
    data = load(config, source(config.data))
    described = json.dumps({"tags": {"data": "synthetic", "version": "1"}})
    dataset = Dataset("synthetic", data.source.digest[:16], "code", described)
    client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])
    client.log_text(run_id, PREDICTIONS, "predictions.csv")
    save_model(build_model(config, len(CLASSES)), data, folder / "model")
    deliver(client, run_id, Message("model", {"rank": None}, folder / "model"))


@pytest.fixture
def old_run(written: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """The run of the earlier version, in `mlruns/` of the working directory."""
    folder, run_id = written
    monkeypatch.chdir(folder)
    return mlflow.MlflowClient(store_uri(TrackingConfig())).get_run(run_id)


def test_an_old_store_is_opened_unchanged(old_run: Run) -> None:
    uri = store_uri(TrackingConfig())
    assert open_store(uri, "beans_exp") == old_run.info.experiment_id
    reader = open_reader(uri, "beans_exp")
    (record,) = reader.records()
    assert (record.run_id, record.status, record.started) == (old_run.info.run_id, "finished", STARTED)
    assert set(record.metrics) == {*METRICS, *EPOCHS} and record.params == PARAMS and record.has_model
    np.testing.assert_allclose(reader.epochs(record.run_id, ["val/loss"])["val/loss"], EPOCHS["val/loss"])
    predictions = reader.predictions(record)
    assert predictions is not None and predictions.predicted.tolist() == [1, 1, 2, 1, 1, 1]


def test_an_old_run_is_found_by_its_old_fingerprint(old_run: Run) -> None:
    experiment = old_run.info.experiment_id
    mlflow.set_tracking_uri(store_uri(TrackingConfig()))
    assert reusable_metrics(experiment, CONFIG, FINGERPRINT) == {"val/accuracy": 0.3333}
    assert typical_seconds(experiment, CONFIG) == 3.97


def test_report_predict_and_promote_read_an_old_run(old_run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    report(["--no-images", "--out", "report"])
    assert "Traceback" not in capsys.readouterr().out
    page = Path("report/report.html").read_text()
    assert "33.3 %" in page, "its validation accuracy"
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save("leaf.png")
    assert predict([old_run.info.run_id, "leaf.png", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["class"] in CLASSES
    assert promote([old_run.info.run_id]) == 0
    assert "models:/beans_exp@champion is version 1" in capsys.readouterr().out
