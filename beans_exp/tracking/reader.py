"""Runs as the commands read them, a page at a time, from SQLite and from servers; only `Reader.attach` writes."""

import csv
import io
import json
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import numpy as np
from mlflow.entities import Run
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from beans_exp.errors import StoreError
from beans_exp.processes import is_dead
from beans_exp.tracking import tags
from beans_exp.tracking.addresses import experiment_path, run_path
from beans_exp.tracking.best_model import has_model
from beans_exp.tracking.parent_run import newest_run
from beans_exp.tracking.reachability import is_server
from beans_exp.tracking.store import connect, find_experiment
from beans_exp.tracking.store_errors import store_errors

if TYPE_CHECKING:
    import keras

PAGE = 200
"""Runs in one request."""


@dataclass(frozen=True)
class Record:
    """A run in the store: `metrics` are the last values, `data` is the name and digest of its data set."""

    run_id: str
    name: str
    status: str
    """`beans.status`, or `running`."""
    started: int
    params: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]
    data: tuple[str, str] | None
    artifacts: str
    has_model: bool


@dataclass(frozen=True)
class Predictions:
    """A run's `predictions.csv`: labels and predictions int64 (n,), probabilities float64 (n, classes)."""

    classes: tuple[str, ...]
    labels: np.ndarray
    predicted: np.ndarray
    probabilities: np.ndarray
    images: tuple[str, ...] = ()
    """The file or the record of each image; empty where the run does not name them."""


@dataclass(frozen=True)
class Sweep:
    """A sweep's parent run, and its jobs: (run id, empty if none was started; status)."""

    parent: str
    id: str
    name: str
    jobs: list[tuple[str, str]]
    state: str = ""
    """`beans.status`, or `running`."""
    wanted: int | None = None
    """The number of jobs of a grid."""
    study: dict[str, Any] | None = None
    """The study of a search: `name`, and `wanted`, its number of trials; where it was is not worth trusting."""


@dataclass(frozen=True)
class Reader:
    """Reads an experiment of a store."""

    client: mlflow.MlflowClient
    uri: str
    experiment: str
    experiment_id: str

    def records(self, query: str = "", sweep: Sweep | None = None) -> Iterator[Record]:
        """Yield the runs matching `query`, an MLflow filter, in the order of their start, without parent runs.

        With `sweep`, only its runs: those in its `jobs.csv`, which include reused ones, and those tagged with its id.
        """
        if sweep is None:
            yield from self._found(query)
            return
        named = [run_id for run_id, _ in sweep.jobs if run_id]
        for start in range(0, len(named), PAGE):
            ids = ", ".join(f"'{run_id}'" for run_id in named[start : start + PAGE])
            yield from self._found(_both(query, f"attributes.run_id IN ({ids})"))
        known = set(named)
        for record in self._found(_both(query, tags.equals(tags.SWEEP, sweep.id))):
            if record.run_id not in known:
                yield record

    def _found(self, query: str) -> Iterator[Record]:
        token = None
        while token != "":
            with store_errors(self.uri):
                page = self.client.search_runs(
                    [self.experiment_id], query, max_results=PAGE, page_token=token, order_by=["attributes.start_time"]
                )
            yield from (_record(run) for run in page if tags.ROLE not in run.data.tags)
            token = page.token or ""

    def sweep(self, wanted: str) -> Sweep:
        """Return the sweep with the id `wanted`, its own or its parent run's; eight characters are enough.

        Raises StoreError if none matches, or several.
        """
        with store_errors(self.uri):
            parents = self.client.search_runs([self.experiment_id], tags.IS_SWEEP, max_results=10_000)
        found = [run for run in parents if _matches(wanted, run)]
        if len(found) != 1:
            known = ", ".join(f"{run.info.run_id[:8]} ({run.info.run_name})" for run in (found or parents)[:8])
            many = "fits several" if found else "is no"
            raise StoreError(f"{wanted} {many} sweep of the experiment {self.experiment}. Known: {known or 'none'}")
        return self._sweep(found[0])

    def last_sweep(self) -> Sweep:
        """Return the sweep that started last; raises StoreError if the experiment has none."""
        with store_errors(self.uri):
            run = newest_run(self.client, self.experiment_id, tags.IS_SWEEP)
        if run is None:
            raise StoreError(
                f"the experiment {self.experiment} has no sweep. Start one with -m, or name another experiment"
            )
        return self._sweep(run)

    def confirmed(self) -> frozenset[str]:
        """Return the ids of the runs that confirmed the winner of a search, over all searches of the experiment."""
        with store_errors(self.uri):
            parents = self.client.search_runs([self.experiment_id], tags.IS_SWEEP, max_results=10_000)
        found: set[str] = set()
        for parent in parents:
            if tags.STUDY in parent.data.tags:
                text = self.artifact(parent.info.artifact_uri, "confirmation.csv")
                lines = list(csv.DictReader(io.StringIO(text or "")))  # the winner's come first
                found |= {line["run_id"] for line in lines if line["trial"] == lines[0]["trial"]}
        return frozenset(found)

    def _sweep(self, run: Run) -> Sweep:
        run_tags = run.data.tags
        state = run_tags.get(tags.STATUS, run.info.status.lower())
        if run.info.status == "RUNNING":  # `beans.status` of a repeated sweep is from the last time
            state = "died" if is_dead(run_tags.get(tags.PROCESS, "")) else "running"
        return Sweep(
            run.info.run_id,
            run_tags[tags.SWEEP],
            run.info.run_name,
            self._jobs(run),
            state,
            _number(run_tags.get(tags.JOBS)),
            _study(run_tags.get(tags.STUDY)),
        )

    def _jobs(self, parent: Run) -> list[tuple[str, str]]:
        text = self.artifact(parent.info.artifact_uri, "jobs.csv")
        return [(line["run_id"], line["status"]) for line in csv.DictReader(io.StringIO(text or ""))]

    def epochs(self, run_id: str, metrics: Iterable[str]) -> dict[str, np.ndarray]:
        """Return the values of each of `metrics` by epoch, float64 (epochs,), in the order of their steps."""
        found = {}
        for name in metrics:
            with store_errors(self.uri):
                points = {point.step: point.value for point in self.client.get_metric_history(run_id, name)}
            found[name] = np.array([points[step] for step in sorted(points)])
        return found

    def predictions(self, record: Record) -> Predictions | None:
        """Return the run's predictions for the test images; None if it has none.

        Raises StoreError for a damaged file.
        """
        text = self.artifact(record.artifacts, "predictions.csv")
        if text is None:
            return None
        try:
            return parse_predictions(text)
        except ValueError as error:
            raise StoreError(f"predictions.csv of run {record.run_id[:8]} is damaged ({error})") from error

    def artifact(self, place: str, name: str) -> str | None:
        """Return the text of an artifact at `place`, a run's artifact address; None if it does not exist."""
        with tempfile.TemporaryDirectory() as folder:
            try:
                return Path(get_artifact_repository(place).download_artifacts(name, folder)).read_text()
            except (mlflow.MlflowException, OSError):
                return None

    def run_artifact(self, run_id: str, name: str) -> str | None:
        """Return the text of an artifact of a run; None if it has none of that name."""
        with store_errors(self.uri):
            return self.artifact(self.client.get_run(run_id).info.artifact_uri, name)

    def model(self, run_id: str) -> "keras.Model":
        """Return the model that a run saved, uncompiled, loaded in safe mode: no code in the file runs.

        Raises BeansExpError if it saved none, or it cannot be loaded.
        """
        from beans_exp.tracking.registry import model_of_run

        with store_errors(self.uri):
            return model_of_run(self.client, run_id)

    def attach(self, run_id: str, files: Iterable[Path]) -> None:
        """Log `files` as artifacts of a run, under `report/`."""
        with store_errors(self.uri):
            for file in files:
                self.client.log_artifact(run_id, str(file), "report")

    def page(self, run_id: str = "") -> str | None:
        """Return the address of a run, or of the experiment, in the browser; None if the store is not a server."""
        if not is_server(self.uri):
            return None
        path = run_path(self.experiment_id, run_id) if run_id else experiment_path(self.experiment_id)
        return f"{self.uri.rstrip('/')}{path}"


def open_reader(uri: str, experiment: str) -> Reader:
    """Open `experiment` of the store at `uri` for reading; creates nothing.

    Raises StoreError for a store or an experiment that does not exist.
    """
    client = connect(uri)
    experiment_id = find_experiment(uri, experiment)
    if experiment_id is None:
        with store_errors(uri):
            known = ", ".join(sorted(item.name for item in client.search_experiments()))
        raise StoreError(f"the store {uri} has no experiment {experiment}. It has {known or 'none'}")
    return Reader(client, uri, experiment, experiment_id)


def parse_predictions(text: str) -> Predictions:
    """Read `predictions.csv`.

    Raises ValueError for truncated lines, unknown classes, and values that are no numbers or no probabilities.
    """
    header, *lines = [line for line in csv.reader(io.StringIO(text)) if line] or [[]]
    named = header[-1:] == ["image"]
    columns = header[3:-1] if named else header[3:]
    if header[:3] != ["index", "label", "predicted"] or len(columns) < 2:
        raise ValueError(f"its header is {','.join(header)[:80]}")
    classes = tuple(name.removeprefix("p_") for name in columns)
    if not lines or any(len(line) != len(header) for line in lines):
        raise ValueError("it has no line" if not lines else "a line has not as many values as its header")
    lines.sort(key=lambda line: int(line[0]))
    return Predictions(
        classes,
        np.array([classes.index(line[1]) for line in lines]),
        np.array([classes.index(line[2]) for line in lines]),
        _probabilities(lines, len(classes)),
        tuple(line[-1] for line in lines) if named else (),
    )


def _number(tag: str | None) -> int | None:
    return int(tag) if tag is not None and tag.isdecimal() else None


def _study(tag: str | None) -> dict[str, Any] | None:
    """The study that a tag describes; None for a text that this project did not write."""
    try:
        found = json.loads(tag or "null")
        return {"name": str(found["name"]), "wanted": int(found["wanted"])}
    except (KeyError, TypeError, ValueError):
        return None


def _probabilities(lines: list[list[str]], classes: int) -> np.ndarray:
    """Return float64 (n, classes); raises ValueError for a line that is no distribution, such as NaN."""
    found = np.array([line[3 : 3 + classes] for line in lines], dtype=np.float64)
    broken = np.flatnonzero(~(np.isfinite(found) & (found >= 0)).all(axis=1) | ~(found.sum(axis=1) > 0))
    if broken.size:
        line = lines[broken[0]]
        raise ValueError(f"the probabilities of image {line[0]} are {','.join(line[3 : 3 + classes])[:80]}")
    return found


def _both(first: str, second: str) -> str:
    return f"{first} and {second}" if first.strip() else second


def _matches(wanted: str, run: Run) -> bool:
    ids = (run.info.run_id, run.data.tags.get(tags.SWEEP, ""))
    return wanted in ids or (len(wanted) >= 8 and any(one.startswith(wanted) for one in ids))


def _record(run: Run) -> Record:
    data = [item.dataset for item in run.inputs.dataset_inputs] if run.inputs else []
    return Record(
        run.info.run_id,
        run.info.run_name or run.info.run_id[:8],
        run.data.tags.get(tags.STATUS) or run.info.status.lower(),
        run.info.start_time,
        run.data.params,
        run.data.metrics,
        run.data.tags,
        (data[0].name, data[0].digest) if data else None,
        run.info.artifact_uri,
        has_model(run),
    )
