"""Runs that are created once: the reply to a request may be lost after the server has created the run."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import mlflow

from beans_exp.tracking import tags

OLDEST_FIRST = ["attributes.start_time", "attributes.run_id"]
_lock = threading.Lock()


def create_once(
    client: mlflow.MlflowClient,
    experiment_id: str,
    query: str,
    run_tags: dict[str, str],
    name: str | None = None,
    started: int | None = None,
) -> str:
    """Return the id of the run that matches `query`, a filter that only this run fulfils; create it if there is none.

    May be called again after an error: a run of an earlier attempt is found. If a server that was slow has created
    several after all, the oldest is kept; parent runs may have children, and all stay.
    """
    found = client.search_runs([experiment_id], query, order_by=OLDEST_FIRST)
    for extra in found[1:] if tags.ROLE not in run_tags else ():
        client.delete_run(extra.info.run_id)
    if found:
        return str(found[0].info.run_id)
    with _single_attempt():
        return str(client.create_run(experiment_id, started, run_tags, name).info.run_id)


@contextmanager
def _single_attempt() -> Iterator[None]:
    """Keep MLflow's client from repeating a request by itself: it would create a second run."""
    name = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
    with _lock:
        before = os.environ.get(name)
        os.environ[name] = "0"
        try:
            yield
        finally:
            if before is None:
                del os.environ[name]
            else:
                os.environ[name] = before
