"""A store of synthetic runs, and the tables and report made from it, once for all tests of the report."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from beans_exp.data import source
from beans_exp.report.build import build_report
from beans_exp.report.entries import Entry, Table
from beans_exp.report.findings import ReportOptions
from beans_exp.report.page import Report
from beans_exp.report.runs.collect import Collected, collect
from beans_exp.report.runs.groups import Group
from beans_exp.report.studies.files import load_studies
from beans_exp.report.studies.study import Study
from beans_exp.report.tables import make_tables
from beans_exp.report.titles import assign_rows
from beans_exp.schema import Config, DataConfig, FinetuneConfig, KernelConfig, ModelConfig, RegConfig, TrainerConfig
from beans_exp.tracking.reader import Reader, open_reader
from beans_exp.tracking.store import open_store
from tests.report.simulated import Point, Writer

INCEPTION = ModelConfig("inception", weights="imagenet", top_block="mixed10")
L2 = RegConfig("l2", l2=0.01)
SMALL = DataConfig("synthetic", image_size=32, train_images=12, validation_images=6, test_images=12, draw_seed=0)


def _points() -> Iterator[tuple[Point, dict[str, Any]]]:
    """The runs of the experiment `grid`, with the writer's options for each."""
    for seed in range(3):
        yield Point(Config(seed=seed), 0.6, 30), {}
        yield Point(Config(reg=replace(L2, name="l2" if seed else "own"), seed=seed), 0.9, 30), {}
    yield Point(Config(kernel=KernelConfig("k3", size=3)), 0.7, 30), {}
    yield Point(Config(kernel=KernelConfig("k3", size=3), seed=1), 0.7, 30), {"status": "oom"}
    yield Point(Config(reg=RegConfig("dropout", dropout=0.2)), 0.7, 30), {"predictions": False}
    yield Point(Config(reg=RegConfig("l1", l1=0.01)), 0.7, 30), {"status": "diverged"}
    for seed in range(2):
        yield Point(Config(model=INCEPTION, seed=seed), 0.8, 60), {}
        yield Point(Config(model=INCEPTION, finetune=FinetuneConfig("top2", blocks=2), seed=seed), 0.95, 60), {}
    yield Point(Config(model=INCEPTION, trainer=TrainerConfig(precision="bfloat16")), 0.8, 60), {}


def _small_points() -> Iterator[Point]:
    for reg in (RegConfig(), L2):
        for seed in range(2):
            yield Point(Config(data=SMALL, reg=reg, seed=seed), 0.7, 5)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a store with the experiments `grid`, `one` (one run) and `empty`."""
    folder = tmp_path_factory.mktemp("store")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    experiment_id = open_store(uri, "grid")
    writer = Writer(uri, experiment_id)
    for point, options in _points():
        writer.write(point, **options)
    small = Writer(uri, experiment_id, images=12, data=("synthetic", source(SMALL).digest[:16]))
    for point in _small_points():
        small.write(point)
    open_store(uri, "empty")
    Writer(uri, open_store(uri, "one")).write(Point(Config(), 0.7, 1))
    return uri


@pytest.fixture(scope="session")
def reader(store: str) -> Reader:
    return open_reader(store, "grid")


@pytest.fixture(scope="session")
def studies() -> list[Study]:
    return load_studies()


@pytest.fixture(scope="session")
def collected(reader: Reader, studies: list[Study]) -> Collected:
    found = collect(reader, reader.records())
    assign_rows(found.groups, studies)
    return found


@pytest.fixture(scope="session")
def tables(collected: Collected, studies: list[Study]) -> list[Table]:
    return make_tables(collected.groups, studies)


@pytest.fixture(scope="session")
def report(reader: Reader) -> Report:
    return build_report(reader, ReportOptions())


def group_of(collected: Collected, title: str) -> Group:
    """Return the group with `title` and without notes."""
    (found,) = [group for group in collected.groups if group.title == title and not group.notes]
    return found


def table_of(tables: Sequence[Table], key: str) -> Table:
    """Return the table with `key`."""
    (found,) = [table for table in tables if table.key == key]
    return found


def entry_of(table: Table, title: str) -> Entry:
    """Return the first line of `table` with `title`."""
    return next(entry for entry in table.entries if entry.title == title)
