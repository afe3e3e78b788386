"""Finished runs, and groups of them: the runs of one configuration, one for each seed."""

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import numpy as np

from beans_exp import metrics
from beans_exp.report.runs.predictions import Tested
from beans_exp.report.statistics.results import Results
from beans_exp.report.studies.rows import Row

GAP = "gap/eval_accuracy"
"""The report's gap: both accuracies with the same weights, in inference mode."""
LAST_EPOCH = ("train/accuracy", "val/accuracy")
"""Metrics by epoch whose last values replace a missing curve."""
METRICS = tuple(metric.name for metric in metrics.METRICS if not metric.per_epoch or metric.name in LAST_EPOCH)
"""The metrics of a run that the report keeps."""


@dataclass(frozen=True)
class Curve:
    """A run by epochs, float32 (epochs,): accuracies, and seconds of training alone."""

    train: np.ndarray
    validation: np.ndarray
    seconds: np.ndarray
    boundary: int | None
    """The last epoch of the first stage, if a second one follows."""


@dataclass(frozen=True)
class FinishedRun:
    """A finished run, reduced to the data that the report needs."""

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
    """Number of compute threads; empty if the run did not record it."""

    @property
    def validation(self) -> float:
        """Validation accuracy of the selected epoch; nan if it was not logged."""
        return float(self.curve.validation[self.selected - 1]) if self.curve else self.metric("val/accuracy")

    @property
    def train(self) -> float:
        """Running training accuracy of the selected epoch; nan if it was not logged."""
        return float(self.curve.train[self.selected - 1]) if self.curve else self.metric("train/accuracy")

    @property
    def test(self) -> float:
        """Test accuracy; nan if the run was not tested."""
        return float(self.tested.right.mean()) if self.tested else self.metric("test/accuracy")

    @property
    def training_seconds(self) -> float:
        """Seconds of all epochs, plus the computation of cached features."""
        epochs = float(self.curve.seconds.sum()) if self.curve else np.nan
        return epochs + self.metrics.get("time/features_seconds", 0.0)

    def metric(self, name: str) -> float:
        """Return a metric; nan if it was not logged."""
        return self.metrics.get(name, np.nan)


@dataclass(frozen=True)
class Match:
    """A row of a study that a group counts for; `notes` are the differences from the row's values."""

    row: Row
    notes: list[str]


@dataclass(eq=False)
class Group:
    """The runs of one configuration on one data set, one for each seed."""

    values: dict[str, str]
    """The values that decide the result: dotted keys, values as YAML."""
    data: tuple[str, str] | None
    done: dict[int, FinishedRun] = field(default_factory=dict)
    other: dict[int, Counter[str]] = field(default_factory=dict)
    """Unfinished runs by seed: how many have which status."""
    repeated: int = 0
    """Finished runs left out because a later one has the same seed."""
    matches: list[Match] = field(default_factory=list)
    """The rows it counts for, at most one of each study."""
    title: str = ""

    @property
    def key(self) -> tuple[object, ...]:
        """Identifies the configuration and its data set within a report."""
        return (*self.values.items(), self.data)

    def match(self, rows: Collection[str]) -> Match | None:
        """Return the one of `rows` that the group counts for, if any."""
        return next((match for match in self.matches if match.row.name in rows), None)

    @property
    def row(self) -> str | None:
        """The name of the first row it counts for; None if there is none."""
        return self.matches[0].row.name if self.matches else None

    @property
    def notes(self) -> list[str]:
        """Its differences from the values of that row."""
        return self.matches[0].notes if self.matches else []

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
        """The tests of the finished runs that have predictions of the same images."""
        return [run.tested for run in self.runs if run.tested and run.tested.labels_digest == self.labels_digest]

    @property
    def labels_digest(self) -> str | None:
        """Digest of the labels that most of the runs were tested on."""
        found = Counter(run.tested.labels_digest for run in self.runs if run.tested)
        return found.most_common(1)[0][0] if found else None

    @property
    def results(self) -> Results | None:
        """Which test images each run got right; None if no run has predictions."""
        runs = [run for run in self.runs if run.tested and run.tested.labels_digest == self.labels_digest]
        tests = [run.tested.right for run in runs if run.tested]
        return Results(tuple(run.seed for run in runs), np.array(tests)) if tests and tests[0].size else None

    @property
    def unfinished(self) -> Counter[str]:
        """The last status of each seed that has no finished run, counted."""
        lost = (statuses for seed, statuses in self.other.items() if seed not in self.done)
        return Counter(next(reversed(statuses)) for statuses in lost)

    def figures(self, figure: Callable[[FinishedRun], float]) -> np.ndarray:
        """Return `figure` of each finished run that has it, float64 (runs,)."""
        values = np.array([figure(run) for run in self.runs], dtype=np.float64)
        return values[np.isfinite(values)]

    def metric(self, name: str) -> np.ndarray:
        """Return a metric of each finished run that has it, float64 (runs,)."""
        return self.figures(lambda run: run.metric(name))

    def mean(self, figure: Callable[[FinishedRun], float]) -> float:
        """Return the mean of `figure` over the runs that have it; nan if none has."""
        values = self.figures(figure)
        return float(values.mean()) if values.size else np.nan

    def spread(self, figure: Callable[[FinishedRun], float]) -> float:
        """Return the standard deviation of `figure` over seeds; 0 for a single seed."""
        values = self.figures(figure)
        return float(values.std(ddof=1)) if values.size > 1 else 0.0

    @property
    def validation(self) -> float:
        """Mean validation accuracy over the seeds, which configurations are chosen by; nan if there is none."""
        return self.mean(lambda run: run.validation)


def data_name(group: Group) -> str:
    """Return the data set of a group in words: its name, the beginning of its digest."""
    if group.data:
        return f"{group.data[0]} ({group.data[1][:8]})"
    return f"{group.values['data.name']} (content not recorded)"


def data_key(group: Group) -> tuple[object, ...]:
    """Return a key that groups share if they were trained on the same images at the same size."""
    return (group.data, *(value for key, value in group.values.items() if key.startswith("data.")))
