"""Pages of MLflow's interface: of an experiment, a sweep, a run, and of several runs compared."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import mlflow
from mlflow.entities import Run, ViewType

from beans_exp.errors import BeansExpError
from beans_exp.schema import TrackingConfig
from beans_exp.tracking import tags
from beans_exp.tracking.addresses import EXPERIMENTS, comparison_path, curves_path, experiment_path, run_path
from beans_exp.tracking.reader import open_reader
from beans_exp.tracking.registry import find_run
from beans_exp.tracking.store import find_experiment
from beans_exp.tracking.store_errors import store_errors

CURVES = "val/accuracy"
"""The metric whose curves are compared."""
MOST_RUNS = 100
"""MLflow's server refuses to send the curves of more runs at once."""


@dataclass(frozen=True)
class Page:
    """A page of MLflow's interface."""

    title: str
    path: str
    """What follows the server's address."""


@dataclass(frozen=True)
class RunId:
    """A run and its experiment."""

    experiment: str
    run: str


def experiment_page(uri: str, experiment: str | None) -> Page:
    """Return the page of `experiment`; by default of the usual one, or of all where the store has no such experiment.

    Raises StoreError for an experiment that does not exist.
    """
    name = experiment or TrackingConfig().experiment
    experiment_id = find_experiment(uri, name)
    if experiment_id is None and experiment is None:
        return Page("all experiments", EXPERIMENTS)
    return Page(f"experiment {name}", experiment_path(experiment_id or open_reader(uri, name).experiment_id))


def run_pages(client: mlflow.MlflowClient, uri: str, names: Sequence[str]) -> list[Page]:
    """Return the pages of the runs and sweeps whose ids begin with `names`, and those that compare their runs.

    Raises BeansExpError for an id that does not exist or is ambiguous, and for more than `MOST_RUNS` runs.
    """
    with store_errors(uri):
        found = [_run_or_sweep(client, name) for name in names]
        compared = list(dict.fromkeys(one for run in found for one in _runs_of(uri, client, run)))
    if len(found) > 1 and len(compared) > MOST_RUNS:
        raise BeansExpError(f"{len(compared)} runs: MLflow compares at most {MOST_RUNS}. Give fewer runs or sweeps")
    pages = [_own_page(run) for run in found] if len(found) == 1 or len(compared) < 2 else []
    return pages + (_comparison(compared) if 1 < len(compared) <= MOST_RUNS else [])


def _run_or_sweep(client: mlflow.MlflowClient, name: str) -> Run:
    """The run or the parent run of the sweep whose id begins with `name`."""
    everywhere = [experiment.experiment_id for experiment in client.search_experiments()]
    query = f"tags.`{tags.SWEEP}` LIKE '{name}%' and {tags.IS_SWEEP}"
    sweeps = client.search_runs(everywhere, query, ViewType.ACTIVE_ONLY, 2) if name.isalnum() else []
    if len(sweeps) > 1:
        raise BeansExpError(f"{name} is the beginning of several sweep ids. Give more of it")
    return sweeps[0] if sweeps else find_run(client, name, "run or sweep")


def _runs_of(uri: str, client: mlflow.MlflowClient, run: Run) -> Iterable[RunId]:
    """The run itself, or the runs of the sweep that it is the parent of, unless they have no curve."""
    experiment = run.info.experiment_id
    if tags.ROLE not in run.data.tags:
        return [RunId(experiment, run.info.run_id)]
    reader = open_reader(uri, client.get_experiment(experiment).name)
    records = reader.records(sweep=reader.sweep(run.info.run_id))
    return [RunId(experiment, record.run_id) for record in records if CURVES in record.metrics]


def _own_page(run: Run) -> Page:
    kind = "sweep" if tags.ROLE in run.data.tags else "run"
    return Page(f"{kind} {run.info.run_name}", run_path(run.info.experiment_id, run.info.run_id))


def _comparison(runs: Sequence[RunId]) -> list[Page]:
    """The chart with a curve per run, and the page with parameters and metrics side by side."""
    experiments, ids = sorted({one.experiment for one in runs}), [one.run for one in runs]
    return [
        Page(f"{CURVES} of {len(runs)} runs by epoch", curves_path(experiments, ids, CURVES)),
        Page(f"parameters and metrics of {len(runs)} runs", comparison_path(experiments, ids)),
    ]
