"""One run, from a configuration to its objective."""

import time
from collections.abc import Sequence

from beans_exp.data import load, source
from beans_exp.evaluation import evaluate
from beans_exp.fingerprint import fingerprint
from beans_exp.models import build_model
from beans_exp.models.cost import model_metrics
from beans_exp.schema import Config
from beans_exp.tracking.finished import reusable
from beans_exp.tracking.run import track
from beans_exp.tracking.store import open_store, store_uri
from beans_exp.tracking.system import peak_memory_mb, reset_peak_memory
from beans_exp.training import configure, train

Objective = float | list[float]


def run(config: Config, overrides: Sequence[str] = ()) -> Objective:
    """Train, test and save what `config` says; return its objective (a list where several are named).

    A finished run that is the same is reused, unless `if_exists=rerun`. `overrides` are the words of the command line,
    kept with the run. `time/total_seconds` ends before the model is saved.

    Raises BeansExpError for bad data, a store that cannot be used, or a loss that diverged.
    """
    started = time.perf_counter()
    reset_peak_memory()
    described = source(config.data)
    mark = fingerprint(config, described)
    experiment_id = open_store(store_uri(config.tracking), config.tracking.experiment)
    if config.if_exists == "reuse" and (earlier := reusable(experiment_id, config, mark)):
        return _objective(config, earlier)

    configure(config)
    data = load(config, described)
    model = build_model(config, len(data.classes))
    with track(config, experiment_id, mark, data, model, overrides) as tracker:
        history = train(model, data, config, tracker.log_epoch)
        summary = history.summary() | model_metrics(model)
        if config.trainer.test:
            test = evaluate(model, data.test, config)
            tracker.log_test(test, data)
            summary |= test.metrics
        summary |= {"memory/peak_rss_mb": peak_memory_mb(), "time/total_seconds": time.perf_counter() - started}
        tracker.log_summary(history, summary)
        objective = _objective(config, history.selected.metrics | summary)
        tracker.log_model(model, data, objective)
    return objective


def _objective(config: Config, metrics: dict[str, float]) -> Objective:
    values = [float(metrics[name]) for name in config.objective.metrics]
    return values if isinstance(config.objective.name, list) else values[0]
