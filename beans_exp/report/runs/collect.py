"""Records of a store gathered into groups; each run is reduced as soon as it is read."""

from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np

from beans_exp.errors import StoreError
from beans_exp.report.deciding import deciding
from beans_exp.report.runs.groups import METRICS, Curve, FinishedRun, Group
from beans_exp.report.runs.predictions import reduce
from beans_exp.tracking import tags
from beans_exp.tracking.reader import Reader, Record

CURVES = ("train/accuracy", "val/accuracy", "time/epoch_seconds")
THREADS = 4
"""Runs read at once: a server answers several requests in parallel."""


@dataclass
class Collected:
    """Every group in the order of its first run, the problems met, and the number of runs."""

    groups: list[Group]
    problems: list[str]
    runs: int


def collect(reader: Reader, records: Iterable[Record]) -> Collected:
    """Gather `records` into groups, and read the curves and predictions of finished runs."""
    groups: dict[tuple[object, ...], Group] = {}
    problems: list[str] = []
    undescribed: Counter[str] = Counter()
    count = 0
    for record, done in _read(reader, records, problems):
        count += 1
        if "model.name" not in record.params:
            undescribed[record.status] += 1
            continue
        group = Group(deciding(record), record.data)
        _add(groups.setdefault(group.key, group), record, done)
    problems += [
        f"{number} run(s) ended as {status} before they logged their configuration"
        for status, number in undescribed.items()
    ]
    found = _without_empty_twins(list(groups.values()))
    return Collected(found, problems + _shortcomings(found), count)


def _read(
    reader: Reader, records: Iterable[Record], problems: list[str]
) -> Iterator[tuple[Record, FinishedRun | None]]:
    """Yield each record with its reduced run; several are read at once, never more than a few ahead."""
    with ThreadPoolExecutor(THREADS) as pool:
        pending = iter(records)
        while batch := list(islice(pending, 4 * THREADS)):
            for record, (done, problem) in zip(batch, pool.map(lambda one: _done(reader, one), batch), strict=True):
                if problem:
                    problems.append(problem)
                yield record, done


def _done(reader: Reader, record: Record) -> tuple[FinishedRun | None, str | None]:
    if record.status != "finished" or "model.name" not in record.params:
        return None, None
    tested, problem = None, None
    try:
        if predictions := reader.predictions(record):
            tested = reduce(predictions)
    except StoreError as error:
        problem = str(error)
    curve = _curve(reader, record)
    return FinishedRun(
        run_id=record.run_id,
        name=record.name,
        seed=int(record.params.get("seed", 0)),
        started=record.started,
        selected=_selected(record, curve),
        metrics={name: record.metrics[name] for name in METRICS if name in record.metrics},
        curve=curve,
        tested=tested,
        has_model=record.has_model,
        threads=record.tags.get(tags.THREADS, ""),
    ), problem


def _selected(record: Record, curve: Curve | None) -> int:
    epochs = len(curve.train) if curve else 1
    best = int(record.metrics.get("best/epoch", epochs))
    return min(best, epochs) if record.params.get("trainer.select") == "best" else epochs


def _curve(reader: Reader, record: Record) -> Curve | None:
    two_stages = record.params.get("finetune.blocks", "0") != "0"
    series = reader.epochs(record.run_id, (*CURVES, "stage") if two_stages else CURVES)
    length = min(len(values) for values in series.values())
    if not length:
        return None
    train, validation, seconds = (series[name][:length].astype(np.float32) for name in CURVES)
    first_stage = int((series["stage"][:length] == 1).sum()) if two_stages else length
    return Curve(train, validation, seconds, first_stage if 0 < first_stage < length else None)


def _add(group: Group, record: Record, done: FinishedRun | None) -> None:
    if done is None:
        group.other.setdefault(int(record.params.get("seed", 0)), Counter())[record.status] += 1
        return
    earlier = group.done.get(done.seed)
    group.repeated += earlier is not None
    if earlier is None or done.started >= earlier.started:
        group.done[done.seed] = done


def _without_empty_twins(groups: list[Group]) -> list[Group]:
    """Move runs that ended before they logged their data set to a group with the same values, if there is one."""
    kept = [group for group in groups if group.data is not None or group.done]
    for group in groups:
        if group not in kept:
            twin = next((other for other in kept if other.values == group.values), None)
            if twin is None:
                kept.append(group)
            else:
                for seed, statuses in group.other.items():
                    twin.other.setdefault(seed, Counter()).update(statuses)
    return kept


def _shortcomings(groups: list[Group]) -> list[str]:
    """Return a sentence for each thing that the groups lack."""
    runs = [run for group in groups for run in group.runs]
    untested = [run for run in runs if run.tested is None]
    silent = [run for run in untested if "test/accuracy" in run.metrics]
    found = []
    if silent:
        names = ", ".join([*(run.run_id[:8] for run in silent[:5]), *["…"][: len(silent) > 5]])
        found.append(
            f"{len(silent)} finished run(s) have no readable predictions.csv ({names}): "
            "their accuracies count, but they cannot be compared image by image"
        )
    if len(untested) > len(silent):
        found.append(f"{len(untested) - len(silent)} finished run(s) were not tested (trainer.test=false)")
    if curveless := sum(run.curve is None for run in runs):
        found.append(f"{curveless} finished run(s) have no metrics by epoch")
    if repeated := sum(group.repeated for group in groups):
        found.append(
            f"{repeated} finished run(s) were left out: a later run of the same configuration has the same seed"
        )
    mixed = [group for group in groups if len({run.tested.labels_digest for run in group.runs if run.tested}) > 1]
    if mixed:
        found.append(
            f"{len(mixed)} configuration(s) have seeds with different test labels: the rarer ones are left out"
        )
    return found
