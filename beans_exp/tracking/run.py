"""One MLflow run: opened, fed while it trains, and ended with the status that says what became of it."""

import csv
import io
import logging
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import keras
import mlflow
import tensorflow as tf
import yaml
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import Metric

from beans_exp.data import Data
from beans_exp.errors import DivergedError, PrunedError
from beans_exp.evaluation import Evaluation
from beans_exp.history import Epoch, History
from beans_exp.schema import Config
from beans_exp.tracking import figures, system
from beans_exp.tracking.finished import has_model, keep_best_model
from beans_exp.tracking.model import log_model
from beans_exp.tracking.params import config_yaml, flat_params
from beans_exp.tracking.resume import PROCESS, Reopened, this_process
from beans_exp.weights import weights_name

log = logging.getLogger(__name__)


class Tracker:
    """Writes to one MLflow run; what the run has already is not written twice."""

    def __init__(self, config: Config, run_id: str, logged: set[tuple[str, int]] | None = None) -> None:
        self.config = config
        self.run_id = run_id
        self.client = mlflow.MlflowClient()
        self.logged = logged or set()
        self.pending: list[Epoch] = []

    def describe(self, data: Data, model: keras.Model, overrides: Sequence[str]) -> None:
        """Log what the run is: its parameters, its configuration, its model and its data."""
        if "config.yaml" in {item.path for item in self.client.list_artifacts(self.run_id)}:
            return
        mlflow.log_params(flat_params(self.config))
        lines: list[str] = []
        model.summary(print_fn=lines.append, line_length=100)
        mlflow.log_text("\n".join(lines), "model_summary.txt")
        mlflow.log_text(yaml.safe_dump(list(overrides)), "overrides.yaml")
        source = CodeDatasetSource(tags={"data": data.source.name, "version": data.source.version})
        mlflow.log_input(MetaDataset(source, name=data.source.name, digest=data.source.digest[:16]), context="training")
        mlflow.log_text(config_yaml(self.config), "config.yaml")

    def hear(self, epoch: Epoch) -> None:
        """Take note of `epoch`; it is sent when a checkpoint or the end covers it: MLflow cannot take it back."""
        self.pending.append(epoch)

    def send(self) -> None:
        """Log the epochs that were heard of, each in one batch."""
        for epoch in self.pending:
            self._log(epoch.metrics, epoch.step)
        self.pending.clear()

    def log_summary(self, history: History, summary: dict[str, float]) -> None:
        """Log the figures of the whole run, and the curves of its epochs; say the figures that matter most."""
        self.send()
        self._log(summary, 0)
        figures_said = history.selected.metrics | summary
        names = [name for name in ("train/accuracy", "val/accuracy", "test/accuracy") if name in figures_said]
        said = ", ".join(f"{name} {figures_said[name]:.4f}" for name in names)
        log.info("run %s: %s, epoch %d", self.run_id, said, history.selected.step)
        picture = figures.curves([epoch.metrics for epoch in history.epochs], history.selected.step)
        self.client.log_figure(self.run_id, picture, "curves.png")

    def log_test(self, test: Evaluation, data: Data) -> None:
        """Log the test's figures, each test image's prediction, and the confusion matrix."""
        matrix = figures.confusion_matrix(test.labels, test.predicted, data.classes)
        self.client.log_text(self.run_id, predictions_csv(test, data.classes), "predictions.csv")
        self.client.log_figure(self.run_id, matrix, "confusion_matrix.png")
        self._log(test.metrics, 0)

    def log_model(self, model: keras.Model, data: Data, objective: float | list[float]) -> None:
        """Log the trained model, where `tracking.save_model` asks for it."""
        keep = self.config.tracking.save_model
        if has_model(self.client.get_run(self.run_id)):  # by the process that was killed before this one
            return
        if keep == "all":
            log_model(model, data)
        elif keep == "best":
            keep_best_model(self.run_id, self.config, objective, lambda: log_model(model, data))

    def _log(self, metrics: dict[str, float], step: int) -> None:
        now = int(1000 * time.time())
        new = [Metric(name, value, now, step) for name, value in metrics.items() if (name, step) not in self.logged]
        if new:
            self.client.log_batch(self.run_id, new)
        self.logged |= {(metric.key, step) for metric in new}


@contextmanager
def track(config: Config, experiment_id: str, fingerprint: str, reopened: Reopened | None = None) -> Iterator[Tracker]:
    """Open a run for `config`, or `reopened` again, and end it by what happens inside the block.

    `beans.status` becomes `finished`, `failed`, `oom`, `diverged`, `pruned` or `killed`; a cause is kept with its
    traceback. No run stays RUNNING. Epochs that no checkpoint covers are sent unless the run is one to go on with.
    """
    tags = _tags(config, fingerprint)
    if reopened:
        mlflow.start_run(run_id=reopened.run_id, tags=tags)
        mlflow.MlflowClient().update_run(reopened.run_id, status="RUNNING")
    else:
        name = config.run_name or default_name(config)
        mlflow.start_run(experiment_id=experiment_id, run_name=name, parent_run_id=config.sweep.parent_run, tags=tags)
    run = mlflow.active_run()
    assert run is not None
    tracker = Tracker(config, run.info.run_id, reopened.logged if reopened else None)
    try:
        yield tracker
    except BaseException as error:
        status, mlflow_status = _outcome(error)
        if status != "killed":
            tracker.send()
        _end(status, mlflow_status, error)
        raise
    _end("finished", "FINISHED", None)


def _outcome(error: BaseException) -> tuple[str, str]:
    """The `beans.status` and MLflow's own status for a run that ended with `error`."""
    if isinstance(error, KeyboardInterrupt | SystemExit):
        return "killed", "KILLED"
    if isinstance(error, PrunedError):
        return "pruned", "KILLED"
    if isinstance(error, MemoryError | tf.errors.ResourceExhaustedError):
        return "oom", "FAILED"
    return ("diverged" if isinstance(error, DivergedError) else "failed"), "FAILED"


def _end(status: str, mlflow_status: str, error: BaseException | None) -> None:
    try:
        mlflow.set_tag("beans.status", status)
        if error is not None:
            mlflow.set_tag("beans.cause", f"{type(error).__name__}: {error}"[:500])
        if error is not None and status != "pruned":
            mlflow.log_text("".join(traceback.format_exception(error)), "traceback.txt")
    finally:
        mlflow.end_run(mlflow_status)


def default_name(config: Config) -> str:
    """A run's name by what was chosen: `lenet-l2-seed0`."""
    chosen = [config.model.name, config.reg.name, config.kernel.name, config.finetune.name]
    words = [chosen[0], *(word for word in chosen[1:] if word not in ("none", "k5"))]
    return "-".join([*words, f"seed{config.seed}"])


def _tags(config: Config, fingerprint: str) -> dict[str, str]:
    tags = {"beans.fingerprint": fingerprint, "beans.precision": config.trainer.precision, PROCESS: this_process()}
    if config.trainer.microbatch:
        tags["beans.microbatch"] = str(config.trainer.microbatch)
    if config.sweep.id:
        tags["beans.sweep"] = config.sweep.id
    if weights := weights_name(config.model):
        tags["beans.weights"] = weights
    return tags | system.package_versions() | system.git_commit()


def predictions_csv(test: Evaluation, classes: Sequence[str]) -> str:
    """Return a line for each test image: its place, its label, the predicted class, a probability for each class."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["index", "label", "predicted", *(f"p_{name}" for name in classes)])
    rows = zip(test.labels, test.predicted, test.probabilities, strict=True)
    for index, (label, predicted, probabilities) in enumerate(rows):
        lines.writerow([index, classes[label], classes[predicted], *(f"{value:.6f}" for value in probabilities)])
    return text.getvalue()
