"""One run, from a configuration to its objective."""

import logging
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import keras

from beans_exp.data import Data, Source, load, source
from beans_exp.errors import StoreError, first_line
from beans_exp.fingerprint import fingerprint
from beans_exp.hpo.pruning import epoch_reporter
from beans_exp.models import build_model
from beans_exp.models.cost import model_metrics
from beans_exp.run_folder import CHECKPOINT, RunProgress, lock, write_progress
from beans_exp.schema import Config
from beans_exp.tracking.endings import is_settled, statuses, storage_errors_as_messages
from beans_exp.tracking.message_queue import queued_objective
from beans_exp.tracking.outbox import send_queued
from beans_exp.tracking.patience import patiently
from beans_exp.tracking.reachability import UNREACHABLE, reason_of
from beans_exp.tracking.resume import find_resumable, find_resumable_offline
from beans_exp.tracking.reuse import find_untested, reusable_metrics
from beans_exp.tracking.store import open_unless_unavailable, store_uri
from beans_exp.tracking.store_errors import passes
from beans_exp.tracking.system import peak_memory_mb, reset_peak_memory
from beans_exp.tracking.tracker import Tracker, open_finished_run, open_run, open_run_offline, track
from beans_exp.training.checkpoint import Checkpoints
from beans_exp.training.evaluation import evaluate, generalization
from beans_exp.training.history import Epoch, History
from beans_exp.training.pace import Pace
from beans_exp.training.stages import configure, stages, train
from beans_exp.training.summary import model_summary

Objective = float | list[float]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunRequest:
    """A configuration to run, and everything that is known of the run before it starts."""

    config: Config
    overrides: Sequence[str]
    """The words of the command line, logged with the run."""
    folder: Path
    """Belongs to this run alone: its lock, its checkpoint, and messages to a store that is unavailable."""
    source: Source
    fingerprint: str
    experiment_id: str | None
    """None while the store is unavailable."""
    key: str = field(default_factory=lambda: uuid.uuid4().hex)
    """Identifies the run if it is created more than once, because a reply was lost."""


def run(config: Config, overrides: Sequence[str] = (), folder: Path = Path("outputs")) -> Objective:
    """Train, test and save `config`; return its objective (a list if several are named).

    A finished run with the same fingerprint is reused unless `if_exists=rerun`; an unfinished one resumes from its
    checkpoint in `folder`. Raises BeansExpError for bad data, an unusable store or disk, a diverged loss and a pruned
    trial.
    """
    described = source(config.data)
    in_sweep = config.sweep.id is not None  # which found the store available
    with storage_errors_as_messages():
        offline = config.tracking.offline or in_sweep
        experiment_id = open_unless_unavailable(config.tracking, offline=offline, was_available=in_sweep)
        request = RunRequest(config, overrides, folder, described, fingerprint(config, described), experiment_id)
        with lock(folder) as waited:
            if waited:
                log.info("waited for another process that was running the same run")
            checkpoints = Checkpoints.read(folder / CHECKPOINT, request.fingerprint)
            found = _find_or_open(request, checkpoints)
            if isinstance(found, Tracker):
                return _train(request, found, checkpoints)
            checkpoints.remove()  # of a process that was killed after its run had ended
            return found


def _find_or_open(request: RunRequest, checkpoints: Checkpoints) -> Objective | Tracker:
    """Return the objective of a finished run, or the tracker of a new or resumed one.

    A store that fails meanwhile has `tracking.patience`; then the run is saved on disk.
    """
    config = request.config
    if request.experiment_id is not None:
        uri = store_uri(config.tracking)
        try:
            return patiently(uri, config.tracking.patience, lambda: _find_or_open_in_store(request, checkpoints))
        except StoreError as error:
            if not passes(uri, error):
                raise
            log.warning(UNREACHABLE, uri, reason_of(error))
    if config.if_exists == "reuse":
        objective = queued_objective(request.folder, request.fingerprint)
        if objective is not None:
            return objective
    resumed = find_resumable_offline(request.folder, request.fingerprint, checkpoints)
    return open_run_offline(config, request.fingerprint, request.folder, resumed, request.key)


def _find_or_open_in_store(request: RunRequest, checkpoints: Checkpoints) -> Objective | Tracker:
    config, mark, experiment_id = request.config, request.fingerprint, request.experiment_id
    assert experiment_id is not None
    send_queued(request.folder)
    if config.if_exists == "reuse":
        _test_finished_run(request, experiment_id)
        if (metrics := reusable_metrics(experiment_id, config, mark)) is not None:
            return _objective(config, metrics)
    resumed = find_resumable(experiment_id, config, mark, checkpoints)
    return open_run(config, experiment_id, mark, request.folder, resumed, request.key)


def _test_finished_run(request: RunRequest, experiment_id: str) -> None:
    """Test the saved model of a finished run that was not tested, such as a trial of a search, and log the result."""
    config = request.config
    run_id = find_untested(experiment_id, request.fingerprint) if config.trainer.test else None
    if run_id is None:
        return
    configure(config)
    data = load(config, request.source)
    tracker, model = open_finished_run(config, run_id)
    test = evaluate(model, data.test, config)
    tracker.log_test(test, data)
    tracker.draw_confusion(test, data)
    log.info("tested the finished run %s: test/accuracy %.4f", run_id, test.accuracy)


def _train(request: RunRequest, tracker: Tracker, checkpoints: Checkpoints) -> Objective:
    """Train, test and save a new or resumed run; figures come last, once the model is saved."""
    config = request.config
    reset_peak_memory()
    with checkpoints.removed_at_result(is_settled), track(tracker):
        checkpoints.begin(tracker.run_id, after_save=tracker.flush_if_possible)
        configure(config)
        data = load(config, request.source)
        model = build_model(config, len(data.classes))
        tracker.log_description(data, model_summary(model, config), request.overrides)
        history = train(model, data, config, _epoch_callback(config, tracker, request.folder), checkpoints)
        test = evaluate(model, data.test, config) if config.trainer.test else None
        summary = _summary(model, data, config, history) | (test.metrics if test else {})
        summary |= {"memory/peak_rss_mb": peak_memory_mb(), "time/total_seconds": checkpoints.total_seconds}
        if test:
            tracker.log_test(test, data)
        tracker.log_summary(history, summary)
        objective = _objective(config, history.selected.metrics | summary)
        tracker.log_model(model, data, objective)
        tracker.draw_curves(history)
        if test:
            tracker.draw_confusion(test, data)
    return objective


def _summary(model: keras.Model, data: Data, config: Config, history: History) -> dict[str, float]:
    """Return the metrics of the whole run; one that cannot be measured is missing, and costs nothing else."""
    measures: list[Callable[[], dict[str, float]]] = [
        history.summary,
        lambda: generalization(model, data, config, history),
        lambda: model_metrics(model),
    ]
    found: dict[str, float] = {}
    for measure in measures:
        try:
            found |= measure()
        except Exception as error:
            if statuses(error)[0] != "failed":  # such as too little memory: the run is resumed after its last epoch
                raise
            log.warning("metrics are missing: %s: %s", type(error).__name__, first_line(error))
    return found


def _epoch_callback(config: Config, tracker: Tracker, folder: Path) -> Callable[[Epoch], None]:
    """The per-epoch callback: reports to the tracker, the progress file and the Optuna study."""
    report = epoch_reporter(config)
    pace = Pace(stages(config))

    def on_epoch(epoch: Epoch) -> None:
        pace.add(epoch)
        tracker.add_epoch(epoch)
        with suppress(OSError):  # a full disk costs the status line alone
            left = pace.seconds_left
            write_progress(folder, RunProgress(pace.stage, epoch.step, pace.total_epochs, epoch.metrics, left))
        report(pace.stage_epoch, epoch.metrics, pace.seconds_left)

    return on_epoch


def _objective(config: Config, metrics: dict[str, float]) -> Objective:
    values = [float(metrics[name]) for name in config.objective.metrics]
    return values if isinstance(config.objective.name, list) else values[0]
