"""One MLflow run: opened, fed while it trains, and ended with the status that says what became of it."""

import csv
import io
import logging
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import keras
import mlflow
import tensorflow as tf
import yaml
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.meta_dataset import MetaDataset

from beans_exp.data import Data
from beans_exp.errors import DivergedError
from beans_exp.evaluation import Evaluation
from beans_exp.schema import Config
from beans_exp.tracking import figures, system
from beans_exp.tracking.finished import keep_best_model
from beans_exp.tracking.model import log_model
from beans_exp.tracking.params import config_yaml, flat_params
from beans_exp.training import Epoch, History
from beans_exp.weights import weights_name

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tracker:
    """Writes to one MLflow run."""

    run_id: str
    config: Config

    def log_epoch(self, epoch: Epoch) -> None:
        """Log the metrics of `epoch`, in one batch."""
        mlflow.log_metrics(epoch.metrics, step=epoch.step, run_id=self.run_id)

    def log_summary(self, history: History, summary: dict[str, float]) -> None:
        """Log the figures of the whole run, and the curves of its epochs; say the figures that matter most."""
        mlflow.log_metrics(summary, run_id=self.run_id)
        figures_said = history.selected.metrics | summary
        names = [name for name in ("train/accuracy", "val/accuracy", "test/accuracy") if name in figures_said]
        said = ", ".join(f"{name} {figures_said[name]:.4f}" for name in names)
        log.info("run %s: %s, epoch %d", self.run_id, said, history.selected.step)
        picture = figures.curves([epoch.metrics for epoch in history.epochs], history.selected.step)
        mlflow.log_figure(picture, "curves.png")

    def log_test(self, test: Evaluation, data: Data) -> None:
        """Log each test image's prediction, and the confusion matrix."""
        mlflow.log_text(predictions_csv(test, data.classes), "predictions.csv")
        mlflow.log_figure(figures.confusion_matrix(test.labels, test.predicted, data.classes), "confusion_matrix.png")

    def log_model(self, model: keras.Model, data: Data, objective: float | list[float]) -> None:
        """Log the trained model, where `tracking.save_model` asks for it."""
        keep = self.config.tracking.save_model
        if keep == "all":
            log_model(model, data)
        elif keep == "best":
            keep_best_model(self.run_id, self.config, objective, lambda: log_model(model, data))


@contextmanager
def track(
    config: Config, experiment_id: str, fingerprint: str, data: Data, model: keras.Model, overrides: Sequence[str]
) -> Iterator[Tracker]:
    """Open a run for `config`, describe it, and end it by what happens inside the block.

    `beans.status` becomes `finished`, `failed`, `oom`, `diverged` or `killed`; a cause is kept with its traceback. No
    run stays RUNNING.
    """
    run = mlflow.start_run(
        experiment_id=experiment_id,
        run_name=config.run_name or default_name(config),
        parent_run_id=config.sweep.parent_run,
        tags=_tags(config, fingerprint),
    )
    try:
        _describe(config, data, model, overrides)
        yield Tracker(run.info.run_id, config)
    except BaseException as error:
        _end(*_outcome(error), error)
        raise
    _end("finished", "FINISHED", None)


def _outcome(error: BaseException) -> tuple[str, str]:
    """The `beans.status` and MLflow's own status for a run that ended with `error`."""
    if isinstance(error, KeyboardInterrupt | SystemExit):
        return "killed", "KILLED"
    if isinstance(error, MemoryError | tf.errors.ResourceExhaustedError):
        return "oom", "FAILED"
    return ("diverged" if isinstance(error, DivergedError) else "failed"), "FAILED"


def _end(status: str, mlflow_status: str, error: BaseException | None) -> None:
    try:
        mlflow.set_tag("beans.status", status)
        if error is not None:
            mlflow.set_tag("beans.cause", f"{type(error).__name__}: {error}"[:500])
            mlflow.log_text("".join(traceback.format_exception(error)), "traceback.txt")
    finally:
        mlflow.end_run(mlflow_status)


def default_name(config: Config) -> str:
    """A run's name by what was chosen: `lenet-l2-seed0`."""
    chosen = [config.model.name, config.reg.name, config.kernel.name, config.finetune.name]
    words = [chosen[0], *(word for word in chosen[1:] if word not in ("none", "k5"))]
    return "-".join([*words, f"seed{config.seed}"])


def _tags(config: Config, fingerprint: str) -> dict[str, str]:
    tags = {"beans.fingerprint": fingerprint, "beans.precision": config.trainer.precision}
    if config.sweep.id:
        tags["beans.sweep"] = config.sweep.id
    if weights := weights_name(config.model):
        tags["beans.weights"] = weights
    return tags | system.package_versions() | system.git_commit()


def _describe(config: Config, data: Data, model: keras.Model, overrides: Sequence[str]) -> None:
    mlflow.log_params(flat_params(config))
    mlflow.log_text(config_yaml(config), "config.yaml")
    mlflow.log_text(yaml.safe_dump(list(overrides)), "overrides.yaml")
    lines: list[str] = []
    model.summary(print_fn=lines.append, line_length=100)
    mlflow.log_text("\n".join(lines), "model_summary.txt")
    source = CodeDatasetSource(tags={"data": data.source.name, "version": data.source.version})
    mlflow.log_input(MetaDataset(source, name=data.source.name, digest=data.source.digest[:16]), context="training")


def predictions_csv(test: Evaluation, classes: Sequence[str]) -> str:
    """Return a line for each test image: its place, its label, the predicted class, a probability for each class."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["index", "label", "predicted", *(f"p_{name}" for name in classes)])
    rows = zip(test.labels, test.predicted, test.probabilities, strict=True)
    for index, (label, predicted, probabilities) in enumerate(rows):
        lines.writerow([index, classes[label], classes[predicted], *(f"{value:.6f}" for value in probabilities)])
    return text.getvalue()
