"""Addresses of pages of MLflow's interface, relative to its server."""

import json
from collections.abc import Sequence
from urllib.parse import quote

EXPERIMENTS = "/#/experiments?workflowType=machine_learning"
"""The list of all experiments."""


def experiment_path(experiment_id: str) -> str:
    """Return the path of the list of runs of an experiment."""
    return f"/#/experiments/{experiment_id}/runs?workflowType=machine_learning"


def run_path(experiment_id: str, run_id: str) -> str:
    """Return the path of a run's page; that of a parent run lists its children."""
    return f"/#/experiments/{experiment_id}/runs/{run_id}"


def curves_path(experiment_ids: Sequence[str], run_ids: Sequence[str], metric: str) -> str:
    """Return the path of the chart with the curve of `metric` of each run, over epochs."""
    chart = {"metric": metric, "plot_metric_keys": [metric]}
    return f"/#/metric?{_query({'runs': run_ids, 'experiments': experiment_ids} | chart)}&x_axis=step"


def comparison_path(experiment_ids: Sequence[str], run_ids: Sequence[str]) -> str:
    """Return the path of the page with parameters and metrics of the runs side by side."""
    return f"/#/compare-runs?{_query({'runs': run_ids, 'experiments': experiment_ids})}"


def _query(values: dict[str, str | Sequence[str]]) -> str:
    """The parameters of a query, each as JSON, as MLflow's interface reads them."""
    return "&".join(
        f"{key}={quote(json.dumps(value, separators=(',', ':')), safe='')}" for key, value in values.items()
    )
