"""Finished runs gathered into groups: configurations without their seed, each run reduced as soon as it is read."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import yaml

from beans_exp.errors import StoreError
from beans_exp.fingerprint import HASHED_DEFAULTS
from beans_exp.report.predictions import Tested, reduce
from beans_exp.report.statistics import Results
from beans_exp.schema import Config
from beans_exp.tracking import tags
from beans_exp.tracking.params import as_text, flat_params
from beans_exp.tracking.reader import Reader, Record

DECIDING = ("model", "reg", "kernel", "finetune", "data", "trainer")
"""The configuration's groups that decide a result, as in the fingerprint."""
LABELS = ("reg.name", "kernel.name", "finetune.name", "trainer.name", "trainer.test", "trainer.microbatch")
"""Keys of these groups that decide nothing."""
METRICS = (
    "train/accuracy",
    "val/accuracy",
    "best/val_accuracy",
    "best/epoch",
    "gap/accuracy",
    "test/accuracy",
    "test/loss",
    "test/cross_entropy",
    "time/total_seconds",
    "time/features_seconds",
    "time/ms_per_image",
    "memory/peak_rss_mb",
    "model/parameters",
    "model/trainable_parameters",
    "model/macs",
)
"""What is kept of a run's metrics."""
CURVES = ("train/accuracy", "val/accuracy", "time/epoch_seconds")
THREADS = 4
"""Runs read at once: a server answers several."""


@dataclass(frozen=True)
class Curve:
    """A run by epochs, float32 (epochs,): accuracies, and seconds of training alone."""

    train: np.ndarray
    validation: np.ndarray
    seconds: np.ndarray
    boundary: int | None
    """The last epoch of the first stage, where a second one follows."""


@dataclass(frozen=True)
class FinishedRun:
    """A finished run, reduced to what the report needs."""

    run_id: str
    name: str
    seed: int
    started: int
    selected: int
    """The epoch that was tested and saved, from 1."""
    metrics: dict[str, float]
    curve: Curve | None
    tested: Tested | None
    has_model: bool
    threads: str = ""
    """How many computed at once; empty where the run does not tell."""

    @property
    def validation(self) -> float:
        """Validation accuracy of the epoch that was selected; nan where it was not logged."""
        return (
            float(self.curve.validation[self.selected - 1]) if self.curve else self.metrics.get("val/accuracy", np.nan)
        )

    @property
    def train(self) -> float:
        """Train accuracy of the epoch that was selected; nan where it was not logged."""
        return float(self.curve.train[self.selected - 1]) if self.curve else self.metrics.get("train/accuracy", np.nan)

    @property
    def test(self) -> float:
        """Test accuracy; nan where the run was not tested."""
        return float(self.tested.right.mean()) if self.tested else self.metrics.get("test/accuracy", np.nan)

    @property
    def training_seconds(self) -> float:
        """Seconds of all epochs, and what the cached features cost when they were made."""
        epochs = float(self.curve.seconds.sum()) if self.curve else np.nan
        return epochs + self.metrics.get("time/features_seconds", 0.0)


@dataclass
class Group:
    """The runs of one configuration on one data set, one for each seed."""

    values: dict[str, str]
    """What decides the result, dotted keys and values as YAML."""
    data: tuple[str, str] | None
    done: dict[int, FinishedRun] = field(default_factory=dict)
    other: dict[int, Counter[str]] = field(default_factory=dict)
    """What became of runs that did not finish: status by seed."""
    repeated: int = 0
    """Finished runs left out because a later one has the same seed."""

    def __post_init__(self) -> None:
        self.row: str | None = None
        self.title = ""
        self.notes: list[str] = []

    @property
    def seeds(self) -> list[int]:
        """The seeds of the finished runs, sorted."""
        return sorted(self.done)

    @property
    def runs(self) -> list[FinishedRun]:
        """The finished runs by seed."""
        return [self.done[seed] for seed in self.seeds]

    @property
    def tested(self) -> list[Tested]:
        """The tests of the finished runs that left predictions of the same images."""
        return [run.tested for run in self.runs if run.tested and run.tested.labels_digest == self.labels_digest]

    @property
    def labels_digest(self) -> str | None:
        """Digest of the labels that most of the runs were tested on."""
        found = Counter(run.tested.labels_digest for run in self.runs if run.tested)
        return found.most_common(1)[0][0] if found else None

    @property
    def results(self) -> Results | None:
        """What the runs got right of the test images; None where no run left predictions."""
        runs = [run for run in self.runs if run.tested and run.tested.labels_digest == self.labels_digest]
        tests = [run.tested.right for run in runs if run.tested]
        return Results(tuple(run.seed for run in runs), np.array(tests)) if tests else None

    @property
    def unfinished(self) -> Counter[str]:
        """How many seeds without a finished run failed, were pruned, … : the last thing that became of them."""
        lost = (statuses for seed, statuses in self.other.items() if seed not in self.done)
        return Counter(next(reversed(statuses)) for statuses in lost)

    def figures(self, figure: Callable[[FinishedRun], float]) -> np.ndarray:
        """Return `figure` of each finished run that has it, float64 (runs,)."""
        values = np.array([figure(run) for run in self.runs], dtype=np.float64)
        return values[np.isfinite(values)]

    def metric(self, name: str) -> np.ndarray:
        """Return a metric of each finished run that has it, float64 (runs,)."""
        return self.figures(lambda run: run.metrics.get(name, np.nan))

    @property
    def validation(self) -> float:
        """Mean validation accuracy over the seeds: what choices look at; nan where there is none."""
        found = self.figures(lambda run: run.validation)
        return float(found.mean()) if found.size else np.nan


@dataclass
class Collected:
    """Every group, in the order of its first run, and what the reader of the report must know."""

    groups: list[Group]
    problems: list[str]
    runs: int


def collect(reader: Reader, records: Iterable[Record]) -> Collected:
    """Gather `records` into groups, reading the curves and predictions of those that finished."""
    groups: dict[tuple[object, ...], Group] = {}
    problems: list[str] = []
    undescribed: Counter[str] = Counter()
    count = 0
    for record, done in _read(reader, records, problems):
        count += 1
        if "model.name" not in record.params:
            undescribed[record.status] += 1
            continue
        values = deciding(record)
        group = groups.setdefault((*values.items(), record.data), Group(values, record.data))
        _add(group, record, done)
    problems += [
        f"{number} run(s) ended as {status} before they were described" for status, number in undescribed.items()
    ]
    found = _without_empty_twins(list(groups.values()))
    return Collected(found, problems + _shortcomings(found), count)


def _read(
    reader: Reader, records: Iterable[Record], problems: list[str]
) -> Iterator[tuple[Record, FinishedRun | None]]:
    """Read what belongs to each record, several at once, never more than a few ahead."""
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
    metrics = {name: record.metrics[name] for name in METRICS if name in record.metrics}
    curve = _curve(reader, record)
    return FinishedRun(
        run_id=record.run_id,
        name=record.name,
        seed=int(record.params.get("seed", 0)),
        started=record.started,
        selected=_selected(record, curve),
        metrics=metrics,
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


def deciding(record: Record) -> dict[str, str]:
    """Return the values of `record` that decide its result, defaults filled in, labels and the seed left out."""
    values = LOGGED_DEFAULTS | {key: value for key, value in record.params.items() if decides(key)}
    values["reg.augment"] = yaml.safe_dump(
        sorted(yaml.safe_load(values["reg.augment"])), default_flow_style=True
    ).strip()
    if record.tags.get(tags.PRECISION):
        values["trainer.precision"] = record.tags[tags.PRECISION]
    return values


def decides(key: str) -> bool:
    """Whether a param decides the result: not labels, not what is only about memory, the store or the machine."""
    return key.split(".")[0] in DECIDING and key not in LABELS


DEFAULTS = {key: value for key, value in flat_params(Config()).items() if decides(key)}
LOGGED_DEFAULTS = DEFAULTS | {key: as_text(value) for key, value in HASHED_DEFAULTS.items()}
"""The value of a key that a run did not log, because the key is newer than the run."""


def _add(group: Group, record: Record, done: FinishedRun | None) -> None:
    if done is None:
        group.other.setdefault(int(record.params.get("seed", 0)), Counter())[record.status] += 1
        return
    earlier = group.done.get(done.seed)
    group.repeated += earlier is not None
    if earlier is None or done.started >= earlier.started:
        group.done[done.seed] = done


def _without_empty_twins(groups: list[Group]) -> list[Group]:
    """Give runs that ended before they named their data set to the group with the same values, where there is one."""
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
    """What the groups lack, in words."""
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
        found.append(f"{repeated} finished run(s) repeat the seed of a later one of the same configuration: left out")
    mixed = [group for group in groups if len({run.tested.labels_digest for run in group.runs if run.tested}) > 1]
    if mixed:
        found.append(f"{len(mixed)} configuration(s) have seeds that were tested on other labels: those are left out")
    return found
