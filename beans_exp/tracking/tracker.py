"""One MLflow run: opened, fed while it trains, and ended with the status that says what became of it."""

import csv
import io
import logging
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import keras
import mlflow
import mlflow.store.tracking.sqlalchemy_store  # MLflow would import it late, for each job of a sweep anew
import tensorflow as tf
import yaml
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import RunTag
from mlflow.tracking.context.registry import resolve_tags

from beans_exp.data import Data
from beans_exp.errors import DivergedError, PrunedError
from beans_exp.models.weights import weights_name
from beans_exp.processes import this_process
from beans_exp.schema import Config
from beans_exp.schema.names import BLOCKS
from beans_exp.tracking import figures, system
from beans_exp.tracking.best_model import Ranked
from beans_exp.tracking.model import save_model
from beans_exp.tracking.outbox import PARENT, DirectSink, Outbox, Sink, find_queue, new_queue, open_sink, write_text
from beans_exp.tracking.params import config_yaml, flat_params
from beans_exp.tracking.registry import model_of_run
from beans_exp.tracking.resume import CAUSE, DESCRIBED, PROCESS, TRACEBACK, ResumedRun, clear_cause
from beans_exp.tracking.store import store_uri
from beans_exp.training.evaluation import Evaluation
from beans_exp.training.history import Epoch, History

log = logging.getLogger(__name__)


class Tracker:
    """Writes to one MLflow run, through `post`; what the run has already is not written twice."""

    def __init__(self, config: Config, post: Sink, run_id: str, resumed: ResumedRun | None = None) -> None:
        self.config = config
        self.post = post
        self.run_id = run_id
        self.logged = resumed.logged if resumed else set()
        self.described = resumed is not None and resumed.described
        self.pending: list[Epoch] = []
        self.objective: float | list[float] | None = None

    def log_description(self, data: Data, model: keras.Model, overrides: Sequence[str]) -> None:
        """Log what the run is: its parameters, its configuration, its model and its data."""
        if self.described:
            return
        self.post.send("params", flat_params(self.config))
        lines: list[str] = []
        model.summary(print_fn=lines.append, line_length=100)
        self._text("\n".join(lines), "model_summary.txt")
        self._text(yaml.safe_dump(list(overrides)), "overrides.yaml")
        source = CodeDatasetSource(tags={"data": data.source.name, "version": data.source.version})
        described = MetaDataset(source, name=data.source.name, digest=data.source.digest[:16])._to_mlflow_entity()
        self.post.send("data", described.to_dictionary())
        self._text(config_yaml(self.config), DESCRIBED)

    def add_epoch(self, epoch: Epoch) -> None:
        """Take note of `epoch`; it is sent when a checkpoint or the end covers it: MLflow cannot take it back."""
        self.pending.append(epoch)

    def flush(self) -> None:
        """Log the epochs that were heard of, each in one batch."""
        heads = {epoch.head_run for epoch in self.pending} - {""}
        if heads:
            self.post.send("tags", {"beans.head_run": heads.pop()})
        for epoch in self.pending:
            self._log(epoch.metrics, epoch.step)
        self.pending.clear()

    def log_summary(self, history: History, summary: dict[str, float]) -> None:
        """Log the figures of the whole run, and the curves of its epochs; say the figures that matter most."""
        self.flush()
        self._log(summary, 0)
        figures_said = history.selected.metrics | summary
        names = [name for name in ("train/accuracy", "val/accuracy", "test/accuracy") if name in figures_said]
        said = ", ".join(f"{name} {figures_said[name]:.4f}" for name in names)
        log.info("run %s: %s, epoch %d", self.run_id, said, history.selected.step)
        picture = figures.curves([epoch.metrics for epoch in history.epochs], history.selected.step)
        self.post.send("file", {}, "curves.png", picture.savefig)

    def log_test(self, test: Evaluation, data: Data) -> None:
        """Log the test's figures, each test image's prediction, and the confusion matrix."""
        matrix = figures.confusion_matrix(test.labels, test.predicted, data.classes)
        self._text(predictions_csv(test, data.classes), "predictions.csv")
        self.post.send("file", {}, "confusion_matrix.png", matrix.savefig)
        self._log(test.metrics, 0)

    def log_model(self, model: keras.Model, data: Data, objective: float | list[float]) -> None:
        """Log the trained model, where `tracking.save_model` asks for it, and the objective."""
        self.objective = objective
        keep = self.config.tracking.save_model
        if keep == "none":
            return
        rank = None
        if keep == "best":
            assert isinstance(objective, float)
            rank = asdict(
                Ranked(self.config.sweep.id, self.config.objective.metrics[0], self.config.trainer.select, objective)
            )
        self.post.send("model", {"rank": rank}, "model", lambda folder: save_model(model, data, folder))

    def end(self, status: str, mlflow_status: str, error: BaseException | None) -> None:
        """End the run, with its `beans.status` and, where there is one, the cause."""
        tags = {"beans.status": status}
        if error is not None:
            tags[CAUSE] = f"{type(error).__name__}: {error}"[:500]
        self.post.send("tags", tags)
        if error is not None and status != "pruned":
            self._text("".join(traceback.format_exception(error)), TRACEBACK)
        self.post.send("end", {"status": mlflow_status, "time": _now(), "objective": self.objective})
        self.post.close()

    def _text(self, text: str, file: str) -> None:
        self.post.send("file", {}, file, lambda path: write_text(path, text))

    def _log(self, metrics: dict[str, float], step: int) -> None:
        now = _now()
        new = [[name, value, now, step] for name, value in metrics.items() if (name, step) not in self.logged]
        if new:
            self.post.send("metrics", {"points": new})
        self.logged |= {(name, step) for name in metrics}


def open_finished_run(config: Config, run_id: str) -> tuple[Tracker, keras.Model]:
    """Return what writes to a run that has ended, and the model that it saved."""
    client = mlflow.MlflowClient()
    return Tracker(config, DirectSink(client, run_id), run_id), model_of_run(client, run_id)


@contextmanager
def track(
    config: Config, experiment_id: str | None, fingerprint: str, folder: Path, resumed: ResumedRun | None = None
) -> Iterator[Tracker]:
    """Open a run for `config`, or `resumed` again, and end it by what happens inside the block.

    Without an `experiment_id` the server is away: what the run logs is kept in `folder`. `beans.status` becomes
    `finished`, `failed`, `oom`, `diverged`, `pruned` or `killed`; a cause is kept with its traceback. No run stays
    RUNNING. Epochs that no checkpoint covers are sent unless the run is one to go on with.
    """
    post, run_id = _open(config, experiment_id, fingerprint, folder, resumed)
    tracker = Tracker(config, post, run_id, resumed)
    try:
        yield tracker
    except BaseException as error:
        status, mlflow_status = _outcome(error)
        if status != "killed":
            tracker.flush()
        tracker.end(status, mlflow_status, error)
        raise
    tracker.end("finished", "FINISHED", None)


def _open(
    config: Config, experiment_id: str | None, fingerprint: str, folder: Path, resumed: ResumedRun | None
) -> tuple[Sink, str]:
    """Where the run's letters go, and its id; a run is made in a store that is there."""
    tags, name = _tags(config, fingerprint), config.run_name or default_name(config)
    uri, experiment = store_uri(config.tracking), config.tracking.experiment
    if experiment_id is None:
        again = find_queue(folder, fingerprint, resumed.run_id) if resumed else None
        new = {"name": name, "tags": resolve_tags(tags), "started": _now()}
        letters = again or new_queue(folder, uri, experiment, fingerprint, None, new)
        return Outbox(letters), letters.address.run_id or letters.address.id
    client = mlflow.MlflowClient(uri)
    if resumed:
        run_id = resumed.run_id
        client.update_run(run_id, status="RUNNING")
        clear_cause(client, run_id)
        client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])
    else:
        run_id = client.create_run(experiment_id, tags=resolve_tags(tags), run_name=name).info.run_id
    return open_sink(client, uri, experiment, fingerprint, run_id, folder), run_id


def _outcome(error: BaseException) -> tuple[str, str]:
    """The `beans.status` and MLflow's own status for a run that ended with `error`."""
    if isinstance(error, KeyboardInterrupt | SystemExit):
        return "killed", "KILLED"
    if isinstance(error, PrunedError):
        return "pruned", "KILLED"
    if isinstance(error, MemoryError | tf.errors.ResourceExhaustedError):
        return "oom", "FAILED"
    return ("diverged" if isinstance(error, DivergedError) else "failed"), "FAILED"


def _now() -> int:
    """Milliseconds since the epoch."""
    return int(1000 * time.time())


def default_name(config: Config) -> str:
    """A run's name by what was chosen: `lenet-l2-seed0`, `inception-mixed5-top2-seed0`."""
    model = config.model
    block = model.top_block if model.top_block not in (None, BLOCKS[-1]) else "none"
    depth = f"top{config.finetune.blocks}" if config.finetune.blocks else "none"
    chosen = [block, config.reg.name, config.kernel.name, depth]
    return "-".join([model.name, *(word for word in chosen if word not in ("none", "k5")), f"seed{config.seed}"])


def _tags(config: Config, fingerprint: str) -> dict[str, str]:
    tags = {"beans.fingerprint": fingerprint, "beans.precision": config.trainer.precision, PROCESS: this_process()}
    if config.trainer.microbatch:
        tags["beans.microbatch"] = str(config.trainer.microbatch)
    if config.sweep.id:
        tags["beans.sweep"] = config.sweep.id
    if config.sweep.parent_run:
        tags[PARENT] = config.sweep.parent_run
    if weights := weights_name(config.model):
        tags["beans.weights"] = weights
    return tags | system.threads() | system.package_versions() | system.git_commit()


def predictions_csv(test: Evaluation, classes: Sequence[str]) -> str:
    """Return a line for each test image: its place, its label, the predicted class, a probability for each class."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["index", "label", "predicted", *(f"p_{name}" for name in classes)])
    rows = zip(test.labels, test.predicted, test.probabilities, strict=True)
    for index, (label, predicted, probabilities) in enumerate(rows):
        lines.writerow([index, classes[label], classes[predicted], *(f"{value:.6f}" for value in probabilities)])
    return text.getvalue()
