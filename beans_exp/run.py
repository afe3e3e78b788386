"""One run, from a configuration to its objective."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from beans_exp.data import Source, load, source
from beans_exp.fingerprint import fingerprint
from beans_exp.hpo.pruning import epoch_reporter
from beans_exp.models import build_model
from beans_exp.models.cost import model_metrics
from beans_exp.run_folder import CHECKPOINT, RunProgress, lock, write_progress
from beans_exp.schema import Config
from beans_exp.tracking.message_queue import queued_objective
from beans_exp.tracking.outbox import send_queued
from beans_exp.tracking.resume import find_resumable, find_resumable_offline
from beans_exp.tracking.reuse import find_untested, reusable_metrics
from beans_exp.tracking.store import open_unless_unreachable
from beans_exp.tracking.system import peak_memory_mb, reset_peak_memory
from beans_exp.tracking.tracker import Tracker, open_finished_run, track
from beans_exp.training.checkpoint import Checkpoints
from beans_exp.training.evaluation import evaluate, generalization
from beans_exp.training.history import Epoch
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
    """Belongs to this run alone: its lock, its checkpoint, and messages to a server that is unreachable."""
    source: Source
    fingerprint: str
    experiment_id: str | None
    """None while the tracking server is unreachable."""


def run(config: Config, overrides: Sequence[str] = (), folder: Path = Path("outputs")) -> Objective:
    """Train, test and save `config`; return its objective (a list if several are named).

    A finished run with the same fingerprint is reused unless `if_exists=rerun`; a killed one resumes from its
    checkpoint in `folder`. Raises BeansExpError for bad data, an unusable store, a diverged loss and a pruned trial.
    """
    described = source(config.data)
    may_be_unreachable = config.tracking.offline or config.sweep.id is not None  # a sweep found it reachable
    experiment_id = open_unless_unreachable(config.tracking, may_be_unreachable=may_be_unreachable)
    request = RunRequest(config, overrides, folder, described, fingerprint(config, described), experiment_id)
    with lock(folder) as waited:
        if waited:
            log.info("waited for another process that was running the same run")
        if experiment_id is not None:
            send_queued(folder)
        if config.if_exists == "reuse":
            _test_finished_run(request)
            if (objective := _finished_objective(request)) is not None:
                (folder / CHECKPOINT).unlink(missing_ok=True)  # of a process that was killed after its run had ended
                return objective
        return _train(request)


def _finished_objective(request: RunRequest) -> Objective | None:
    """The objective of a finished run with the same fingerprint, None without one."""
    if request.experiment_id is None:
        return queued_objective(request.folder, request.fingerprint)
    metrics = reusable_metrics(request.experiment_id, request.config, request.fingerprint)
    return _objective(request.config, metrics) if metrics else None


def _test_finished_run(request: RunRequest) -> None:
    """Test the saved model of a finished run that was not tested, such as a trial of a search, and log the result."""
    config = request.config
    if request.experiment_id is None or not config.trainer.test:
        return
    run_id = find_untested(request.experiment_id, request.fingerprint)
    if run_id is None:
        return
    configure(config)
    data = load(config, request.source)
    tracker, model = open_finished_run(config, run_id)
    test = evaluate(model, data.test, config)
    tracker.log_test(test, data)
    log.info("tested the finished run %s: test/accuracy %.4f", run_id, test.accuracy)


def _train(request: RunRequest) -> Objective:
    """Train, test and save a new or resumed run; `time/total_seconds` ends before the model is saved."""
    config, folder = request.config, request.folder
    reset_peak_memory()
    checkpoints = Checkpoints.read(folder / CHECKPOINT, request.fingerprint)
    resumed = (
        find_resumable(request.experiment_id, config, request.fingerprint, checkpoints)
        if request.experiment_id is not None
        else find_resumable_offline(folder, request.fingerprint, checkpoints)
    )
    with (
        checkpoints.removed_unless_killed(),
        track(config, request.experiment_id, request.fingerprint, folder, resumed) as tracker,
    ):
        checkpoints.begin(tracker.run_id, after_save=tracker.flush)
        configure(config)
        data = load(config, request.source)
        model = build_model(config, len(data.classes))
        tracker.log_description(data, model_summary(model, config), request.overrides)
        history = train(model, data, config, _epoch_callback(config, tracker, folder), checkpoints)
        summary = history.summary() | generalization(model, data, config, history) | model_metrics(model)
        if config.trainer.test:
            test = evaluate(model, data.test, config)
            tracker.log_test(test, data)
            summary |= test.metrics
        summary |= {"memory/peak_rss_mb": peak_memory_mb(), "time/total_seconds": checkpoints.total_seconds}
        tracker.log_summary(history, summary)
        objective = _objective(config, history.selected.metrics | summary)
        tracker.log_model(model, data, objective)
    return objective


def _epoch_callback(config: Config, tracker: Tracker, folder: Path) -> Callable[[Epoch], None]:
    """The per-epoch callback: reports to the tracker, the progress file and the Optuna study."""
    report = epoch_reporter(config)
    pace = Pace(stages(config))

    def on_epoch(epoch: Epoch) -> None:
        pace.add(epoch)
        tracker.add_epoch(epoch)
        write_progress(folder, RunProgress(pace.stage, epoch.step, pace.total_epochs, epoch.metrics, pace.seconds_left))
        report(pace.stage_epoch, epoch.metrics, pace.seconds_left)

    return on_epoch


def _objective(config: Config, metrics: dict[str, float]) -> Objective:
    values = [float(metrics[name]) for name in config.objective.metrics]
    return values if isinstance(config.objective.name, list) else values[0]
