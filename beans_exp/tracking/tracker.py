"""One MLflow run: opened, written to while it trains, and ended with a status."""

import logging
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import keras
import mlflow
import mlflow.store.tracking.sqlalchemy_store  # else MLflow imports it late, again for each job of a sweep
import yaml
from matplotlib.figure import Figure
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import RunTag
from mlflow.tracking.context.registry import resolve_tags

from beans_exp.data import Data
from beans_exp.errors import first_line
from beans_exp.files import csv_text
from beans_exp.models.weights import weights_name
from beans_exp.processes import this_process
from beans_exp.schema import Config
from beans_exp.schema.labels import labeled
from beans_exp.tracking import figures, system, tags
from beans_exp.tracking.best_model import Ranked
from beans_exp.tracking.confusion import confusion_matrix
from beans_exp.tracking.creation import create_once
from beans_exp.tracking.endings import is_settled, is_storage_error, statuses
from beans_exp.tracking.message_queue import find_queue, new_queue
from beans_exp.tracking.messages import TRACEBACK, clear_cause
from beans_exp.tracking.model import save_model
from beans_exp.tracking.outbox import DirectSink, Outbox, Sink, open_sink
from beans_exp.tracking.params import config_yaml, flat_params
from beans_exp.tracking.registry import model_of_run
from beans_exp.tracking.resume import CONFIG_FILE, ResumedRun
from beans_exp.tracking.store import store_uri
from beans_exp.training.evaluation import Evaluation
from beans_exp.training.history import Epoch, History

log = logging.getLogger(__name__)

SHOWN = ("train/accuracy", "val/accuracy", "test/accuracy")
"""The metrics that end the log of a run."""


class Tracker:
    """Writes to one MLflow run, through `sink`; a resumed run's metrics are not written twice."""

    def __init__(self, config: Config, sink: Sink, run_id: str, resumed: ResumedRun | None = None) -> None:
        self.config = config
        self.sink = sink
        self.run_id = run_id
        self.logged = resumed.logged if resumed else set()
        self.knows_logged = resumed is None or resumed.is_known
        self.described = resumed is not None and resumed.described
        self.pending: list[Epoch] = []
        self.objective: float | list[float] | None = None

    def log_description(self, data: Data, summary: str, overrides: Sequence[str]) -> None:
        """Log parameters, configuration, the model's `summary` and the data set, unless a resumed run has them."""
        if self.described:
            return
        self.sink.send("params", flat_params(self.config))
        self._log_text(summary, "model_summary.txt")
        self._log_text(yaml.safe_dump(list(overrides)), "overrides.yaml")
        source = CodeDatasetSource(tags={"data": data.source.name, "version": data.source.version})
        described = MetaDataset(source, name=data.source.name, digest=data.source.digest[:16])._to_mlflow_entity()
        self.sink.send("data", described.to_dictionary())
        if data.source.split_csv:
            self._log_text(data.source.split_csv(), "split.csv")
        if data.skipped:
            self._log_text(csv_text(["image", "reason"], data.skipped), "skipped.csv")
        self._log_text(config_yaml(self.config), CONFIG_FILE)

    def add_epoch(self, epoch: Epoch) -> None:
        """Hold `epoch` back until a checkpoint or the end covers it: MLflow cannot delete a logged step."""
        self.pending.append(epoch)

    def flush(self) -> None:
        """Log the epochs that were added, each in one batch."""
        heads = {epoch.head_run for epoch in self.pending} - {""}
        if heads:
            self.sink.send("tags", {tags.HEAD_RUN: heads.pop()})
        while self.pending:
            self._log(self.pending[0].metrics, self.pending[0].step)
            self.pending.pop(0)

    def flush_if_possible(self) -> None:
        """Log the epochs that were added; training continues if that fails, and they are logged with the next ones."""
        try:
            self.flush()
        except Exception as error:
            if not is_storage_error(error):
                raise
            log.warning("%d epochs wait to be logged: %s", len(self.pending), first_line(error))

    def log_summary(self, history: History, summary: dict[str, float]) -> None:
        """Log the metrics of the whole run, and print the accuracies."""
        self.flush()
        self._log(summary, 0)
        metrics = history.selected.metrics | summary
        shown = ", ".join(f"{name} {metrics[name]:.4f}" for name in SHOWN if name in metrics)
        log.info("run %s: %s, epoch %d", self.run_id, shown, history.selected.step)

    def log_test(self, test: Evaluation, data: Data) -> None:
        """Log the test's metrics and the prediction of each test image."""
        self._log_text(predictions_csv(test, data.classes, data.test.names), "predictions.csv")
        self._log(test.metrics, 0)

    def draw_curves(self, history: History) -> None:
        """Log the curves of the epochs."""
        epochs = [epoch.metrics for epoch in history.epochs]
        self._draw("curves.png", lambda: figures.curves(epochs, history.selected.step))

    def draw_confusion(self, test: Evaluation, data: Data) -> None:
        """Log the confusion matrix of the test."""
        self._draw("confusion_matrix.png", lambda: confusion_matrix(test.labels, test.predicted, data.classes))

    def log_model(self, model: keras.Model, data: Data, objective: float | list[float]) -> None:
        """Log the trained model, if `tracking.save_model` asks for it, and the objective."""
        self.objective = objective
        save = self.config.tracking.save_model
        if save == "none":
            return
        rank = None
        if save == "best":
            assert isinstance(objective, float)
            metric, select = self.config.objective.metrics[0], self.config.trainer.select
            rank = asdict(Ranked(self.config.sweep.id, metric, select, objective))
        self.sink.send("model", {"rank": rank}, "model", lambda folder: save_model(model, data, folder))

    def end(self, status: str, mlflow_status: str, error: BaseException | None) -> None:
        """End the run with its `beans.status` and, after an `error`, the cause."""
        cause = {} if error is None else {tags.CAUSE: f"{type(error).__name__}: {error}"[:500]}
        self.sink.send("tags", {tags.STATUS: status, **cause})
        if error is not None and status != "pruned":
            self._log_text("".join(traceback.format_exception(error)), TRACEBACK)
        self.sink.send("end", {"status": mlflow_status, "time": _now(), "objective": self.objective})
        self.sink.close()

    def _draw(self, file: str, draw: Callable[[], Figure]) -> None:
        """Log a figure; one that cannot be drawn or stored costs nothing but itself."""
        try:
            picture = figures.png(draw())
            self.sink.send("file", {}, file, lambda path: path.write_bytes(picture))
        except Exception as error:  # whatever Matplotlib and the store can raise
            log.warning("%s is missing: %s: %s", file, type(error).__name__, first_line(error))

    def _log_text(self, text: str, file: str) -> None:
        self.sink.send("file", {}, file, lambda path: path.write_text(text))

    def _log(self, metrics: dict[str, float], step: int) -> None:
        now = _now()
        new = [[name, value, now, step] for name, value in metrics.items() if (name, step) not in self.logged]
        if new:
            self.sink.send("metrics", {"points": new} | ({} if self.knows_logged else {"once": True}))
        self.logged |= {(name, step) for name in metrics}


def open_finished_run(config: Config, run_id: str) -> tuple[Tracker, keras.Model]:
    """Return a tracker that adds to a finished run, and the model that the run saved."""
    client = mlflow.MlflowClient()
    return Tracker(config, DirectSink(client, run_id), run_id), model_of_run(client, run_id)


@contextmanager
def track(tracker: Tracker) -> Iterator[None]:
    """End the run of `tracker` by the outcome of the block; no run stays RUNNING unless its store is unavailable.

    `beans.status` becomes `finished`, `failed`, `oom`, `diverged`, `pruned` or `killed`, with cause and traceback.
    Epochs that no checkpoint covers are logged only if the run will not be resumed: that would train them again.
    """
    try:
        yield
    except BaseException as error:
        try:
            if is_settled(error):
                tracker.flush()
            tracker.end(*statuses(error), error)
        except Exception as failed:  # the error of the block is the one that matters
            text = "the end of run %s could not be written: %s: %s"
            log.error(text, tracker.run_id, type(failed).__name__, first_line(failed))
        raise
    tracker.end("finished", "FINISHED", None)


def open_run(
    config: Config, experiment_id: str, fingerprint: str, folder: Path, resumed: ResumedRun | None, key: str
) -> Tracker:
    """Return the tracker of a new run for `config`, or of `resumed`, which is reopened.

    May be called again after an error with the same `key`, which identifies the new run.
    """
    client = mlflow.MlflowClient(store_uri(config.tracking))
    run_tags = _run_tags(config, fingerprint)
    if resumed:
        run_id = resumed.run_id
        client.update_run(run_id, status="RUNNING")
        clear_cause(client, run_id)
        client.log_batch(run_id, tags=[RunTag(key, value) for key, value in run_tags.items()])
    else:
        new_tags = resolve_tags(run_tags | {tags.OUTBOX: key})
        name = config.run_name or default_name(config)
        run_id = create_once(client, experiment_id, tags.equals(tags.OUTBOX, key), new_tags, name)
    experiment, patience = config.tracking.experiment, config.tracking.patience
    return Tracker(config, open_sink(client, experiment, fingerprint, run_id, folder, patience), run_id, resumed)


def open_run_offline(config: Config, fingerprint: str, folder: Path, resumed: ResumedRun | None, key: str) -> Tracker:
    """Return the same while the store is unavailable: messages are queued in `folder`.

    The id of a new run is that of its queue, `key`, by which the run is also found if it was created after all.
    """
    queue = find_queue(folder, fingerprint, resumed.run_id) if resumed else None
    if queue is None:
        name, run_tags = config.run_name or default_name(config), resolve_tags(_run_tags(config, fingerprint))
        new = {"name": name, "tags": run_tags, "started": _now()} | ({"resumed": True} if resumed else {})
        uri, experiment = store_uri(config.tracking), config.tracking.experiment
        queue = new_queue(folder, uri, experiment, fingerprint, None, new, resumed.run_id if resumed else key)
    outbox = Outbox(queue, retrying=True, patience=config.tracking.patience)
    return Tracker(config, outbox, queue.address.run_id or queue.address.id, resumed)


def _now() -> int:
    """Milliseconds since the epoch."""
    return int(1000 * time.time())


def default_name(config: Config) -> str:
    """Return a run's name from its values: `lenet-l2-seed0`, `lenet-l2=0.1-seed0`, `inception-mixed5-top2-seed0`."""
    config = labeled(config)
    model = config.model
    block = model.top_block or "none"
    block = "none" if block in model.blocks[-1:] else block
    depth = f"top{config.finetune.blocks}" if config.finetune.blocks else "none"
    chosen = [block, config.reg.name, config.kernel.name, depth]
    return "-".join([model.name, *(word for word in chosen if word not in ("none", "k5")), f"seed{config.seed}"])


def _run_tags(config: Config, fingerprint: str) -> dict[str, str]:
    optional = {
        tags.MICROBATCH: config.trainer.microbatch,
        tags.SWEEP: config.sweep.id,
        tags.PARENT_RUN: config.sweep.parent_run,
        tags.WEIGHTS: weights_name(config.model),
    }
    return {
        tags.FINGERPRINT: fingerprint,
        tags.PRECISION: config.trainer.precision,
        tags.PROCESS: this_process(),
        **{tag: str(value) for tag, value in optional.items() if value},
        **system.threads(),
        **system.package_versions(),
        **system.git_commit(),
    }


def predictions_csv(test: Evaluation, classes: Sequence[str], names: Sequence[str] = ()) -> str:
    """Return `predictions.csv`: for each test image its index, its label, the predicted class and all probabilities.

    The last column is the file or the record of the image, from `names`, if it is known.
    """
    header = ["index", "label", "predicted", *(f"p_{name}" for name in classes), "image"]
    rows = zip(test.labels, test.predicted, test.probabilities, names or [""] * len(test.labels), strict=True)
    return csv_text(
        header,
        (
            [index, classes[label], classes[predicted], *(f"{value:.6f}" for value in probabilities), name]
            for index, (label, predicted, probabilities, name) in enumerate(rows)
        ),
    )
