"""One run, from a configuration to its objective."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from beans_exp.data import Source, load, source
from beans_exp.fingerprint import fingerprint
from beans_exp.hpo.pruning import epoch_reporter
from beans_exp.models import build_model
from beans_exp.models.cost import model_metrics
from beans_exp.run_folder import CHECKPOINT, RunProgress, lock, write_progress
from beans_exp.schema import Config
from beans_exp.tracking.outbox import finished_objective, send_queued
from beans_exp.tracking.resume import reopenable, reopenable_offline
from beans_exp.tracking.reuse import reusable, untested
from beans_exp.tracking.store import open_unless_unreachable
from beans_exp.tracking.system import peak_memory_mb, reset_peak_memory
from beans_exp.tracking.tracker import Tracker, finished_run, track
from beans_exp.training.checkpoint import Checkpoints
from beans_exp.training.evaluation import evaluate, generalization
from beans_exp.training.history import Epoch
from beans_exp.training.stages import configure, stages, train

Objective = float | list[float]

log = logging.getLogger(__name__)


def run(config: Config, overrides: Sequence[str] = (), folder: Path = Path("outputs")) -> Objective:
    """Train, test and save what `config` says; return its objective (a list where several are named).

    A finished run that is the same is reused, unless `if_exists=rerun`; one that was killed is gone on with from its
    checkpoint in `folder`, which belongs to this run alone. `overrides` are the words of the command line, kept with
    the run.

    Raises BeansExpError for bad data, a store that cannot be used, a loss that diverged, or a trial that is pruned.
    """
    described = source(config.data)
    mark = fingerprint(config, described)
    known_to_be_there = config.sweep.id is not None  # when its sweep began
    experiment_id = open_unless_unreachable(config.tracking, may_be_away=config.tracking.offline or known_to_be_there)
    with lock(folder) as waited:
        if waited:
            log.info("another process had the same run under way")
        if experiment_id is not None:
            send_queued(folder)
        earlier = _earlier(config, experiment_id, mark, described, folder) if config.if_exists == "reuse" else None
        if earlier is not None:
            (folder / CHECKPOINT).unlink(missing_ok=True)  # it was killed between its end and this
            return earlier
        return _train(config, overrides, folder, described, mark, experiment_id)


def _earlier(config: Config, experiment_id: str | None, mark: str, described: Source, folder: Path) -> Objective | None:
    """The objective of a finished run that is the same, tested now where that is missing; None where there is none."""
    if experiment_id is None:
        return finished_objective(folder, mark)
    _test_where_missing(config, experiment_id, mark, described)
    earlier = reusable(experiment_id, config, mark)
    return _objective(config, earlier) if earlier else None


def _train(
    config: Config, overrides: Sequence[str], folder: Path, described: Source, mark: str, experiment_id: str | None
) -> Objective:
    """The run itself; `time/total_seconds` ends before the model is saved."""
    reset_peak_memory()
    checkpoints = Checkpoints.read(folder / CHECKPOINT, mark)
    reopened = (
        reopenable(experiment_id, config, mark, checkpoints)
        if experiment_id is not None
        else reopenable_offline(folder, mark, checkpoints)
    )
    with checkpoints.removed_unless_killed(), track(config, experiment_id, mark, folder, reopened) as tracker:
        checkpoints.begin(tracker.run_id, after_save=tracker.send)
        configure(config)
        data = load(config, described)
        model = build_model(config, len(data.classes))
        tracker.describe(data, model, overrides)
        history = train(model, data, config, _listener(config, tracker, folder), checkpoints)
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


def _listener(config: Config, tracker: Tracker, folder: Path) -> Callable[[Epoch], None]:
    """What hears of each epoch: the tracker, whoever watches the folder, and the study of a search."""
    report = epoch_reporter(config)
    planned = {stage.number: stage.epochs for stage in stages(config)}
    seconds: dict[int, list[float]] = {number: [] for number in planned}

    def on_epoch(epoch: Epoch) -> None:
        tracker.hear(epoch)
        stage = int(epoch.metrics["stage"])
        seconds[stage].append(epoch.metrics["time/epoch_seconds"])
        to_come = sum(epochs for number, epochs in planned.items() if number >= stage) - len(seconds[stage])
        left = to_come * min(seconds[stage])  # a process's first epoch of a stage builds what the others run
        write_progress(folder, RunProgress(stage, epoch.step, sum(planned.values()), epoch.metrics, left))
        report(len(seconds[stage]), epoch.metrics, left)

    return on_epoch


def _test_where_missing(config: Config, experiment_id: str, mark: str, described: Source) -> None:
    """Test the saved model of a finished run that was not tested, as those of a search are not."""
    run_id = untested(experiment_id, mark) if config.trainer.test else None
    if run_id is None:
        return
    configure(config)
    data = load(config, described)
    tracker, model = finished_run(config, run_id)
    test = evaluate(model, data.test, config)
    tracker.log_test(test, data)
    log.info("run %s: tested now, test/accuracy %.4f", run_id, test.accuracy)


def _objective(config: Config, metrics: dict[str, float]) -> Objective:
    values = [float(metrics[name]) for name in config.objective.metrics]
    return values if isinstance(config.objective.name, list) else values[0]
