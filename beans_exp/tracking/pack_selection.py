"""Which runs of a store are packed, with which sweeps, and with which models."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import mlflow
import yaml
from mlflow.entities import Run

from beans_exp.metrics import OBJECTIVES
from beans_exp.tracking import tags
from beans_exp.tracking.best_model import has_model, selected_value
from beans_exp.tracking.packed_file import is_sweep_id
from beans_exp.tracking.packing import RUNNING, packed_id
from beans_exp.tracking.parallel import client_of
from beans_exp.tracking.reader import PAGE, Reader, Sweep
from beans_exp.tracking.store_errors import store_errors


@dataclass(frozen=True)
class StoredRun:
    """A run in a store: the facts that decide whether and how it is packed."""

    run_id: str
    id: str
    """The id under which it is packed: that of the store where it was trained."""
    has_ended: bool
    is_finished: bool
    started: int
    ended: int
    tags: dict[str, str]
    artifacts: str
    """Where its artifacts are."""
    has_model: bool


@dataclass(frozen=True)
class Selection:
    """The part of an experiment that is packed: runs by packed id, parent runs by the id of their sweep."""

    runs: dict[str, StoredRun]
    parents: dict[str, StoredRun]
    members: dict[str, list[str]]
    """The packed ids of each sweep's runs, among them those that it reused."""
    running: int
    """Runs that were left out because they have not ended."""

    @property
    def ids(self) -> dict[str, str]:
        """The packed id of each run, by its id in this store."""
        return {run.run_id: packed for packed, run in self.runs.items()}


def select_runs(reader: Reader, wanted: Sweep | None) -> Selection:
    """Return the runs of the experiment that have ended, or those of one sweep, with the parents of its sweeps."""
    found = list(_all_runs(reader))
    parents = _newest(run for run in found if run.tags.get(tags.ROLE) == tags.SWEEP_ROLE)
    if wanted is not None:
        parents = {sweep: run for sweep, run in parents.items() if sweep == wanted.id}
    sweeps = [wanted] if wanted else [reader.sweep(run.run_id) for run in parents.values()]
    children = [run for run in found if tags.ROLE not in run.tags]
    named = {sweep.id: _members(sweep, children) for sweep in sweeps}
    if wanted is not None:
        children = [run for run in children if run.run_id in named[wanted.id]]
    runs = _one_of_each(run for run in children if run.has_ended)
    ids = {run.run_id: packed for packed, run in runs.items()}
    members = {sweep: [ids[run_id] for run_id in found if run_id in ids] for sweep, found in named.items()}
    return Selection(runs, parents, members, sum(not run.has_ended for run in children))


def best_runs(uri: str, selection: Selection) -> set[str]:
    """Return the packed id of the best run of each sweep that has a model, and of the best one outside of sweeps.

    Raises StoreError if the store at `uri` cannot be read.
    """
    single = [packed for packed, run in selection.runs.items() if tags.SWEEP not in run.tags]
    best = set()
    with store_errors(uri):
        for members in (*selection.members.values(), single):
            ranked = [(_rank(client_of(uri), selection.runs[packed]), packed) for packed in members]
            if candidates := [(rank, packed) for rank, packed in ranked if rank is not None]:
                best.add(max(candidates)[1])
    return best


def _all_runs(reader: Reader) -> Iterator[StoredRun]:
    token = None
    while token != "":
        with store_errors(reader.uri):
            page = reader.client.search_runs([reader.experiment_id], max_results=PAGE, page_token=token)
        yield from map(_stored, page)
        token = page.token or ""


def _stored(run: Run) -> StoredRun:
    return StoredRun(
        run.info.run_id,
        packed_id(run),
        run.info.status not in RUNNING,
        run.info.status == "FINISHED",
        run.info.start_time,
        run.info.end_time or 0,
        run.data.tags,
        run.info.artifact_uri,
        has_model(run),
    )


def _newest(parents: Iterable[StoredRun]) -> dict[str, StoredRun]:
    """The parent run of each sweep; the newest, should there be several."""
    ordered = sorted(parents, key=lambda run: run.started)
    return {run.tags[tags.SWEEP]: run for run in ordered if is_sweep_id(run.tags[tags.SWEEP])}


def _members(sweep: Sweep, children: Iterable[StoredRun]) -> list[str]:
    """The ids of the runs of `sweep`: those in its table of jobs, and those tagged with its id."""
    tagged = [run.run_id for run in children if run.tags.get(tags.SWEEP) == sweep.id]
    return list(dict.fromkeys([run_id for run_id, _ in sweep.jobs if run_id] + tagged))


def _one_of_each(runs: Iterable[StoredRun]) -> dict[str, StoredRun]:
    """The runs by packed id: of a run and an unpacked copy of it, the one that finished, else the later one."""
    return {run.id: run for run in sorted(runs, key=lambda run: (run.is_finished, run.ended))}


def _rank(client: mlflow.MlflowClient, stored: StoredRun) -> tuple[float, int] | None:
    """The rank of a run: its objective, higher is better, then the earlier start; None without a model."""
    if not stored.has_model:
        return None
    run = client.get_run(stored.run_id)
    names = yaml.safe_load(run.data.params.get("objective.name", "val/accuracy"))
    name = names if isinstance(names, str) else names[0]
    try:
        value = selected_value(client, run, run.data.params.get("trainer.select", "last"), name)
    except (KeyError, StopIteration):
        return None
    sign = 1 if OBJECTIVES.get(name) == "maximize" else -1
    return None if math.isnan(value) else (sign * value, -stored.started)
