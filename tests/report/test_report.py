"""`python -m beans_exp.report`: what it finds, compares, draws and says, on a store of made-up runs."""

import base64
import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest

from beans_exp.data import source
from beans_exp.errors import BeansExpError, ConfigError, StoreError
from beans_exp.report import figures, images
from beans_exp.report.__main__ import main
from beans_exp.report.build import ReportOptions, build_report, reported_epochs
from beans_exp.report.groups import Collected, Group, collect, decides
from beans_exp.report.page import Report, render_markdown, render_page
from beans_exp.report.search import importances
from beans_exp.report.study_rows import assign_rows, study_rows
from beans_exp.report.tables import Entry, Table, find_baseline, make_tables
from beans_exp.report.views import Scale, views
from beans_exp.schema import Config, DataConfig, FinetuneConfig, KernelConfig, ModelConfig, RegConfig, TrainerConfig
from beans_exp.tracking.params import flat_params
from beans_exp.tracking.reader import Reader, open_reader, parse_predictions
from beans_exp.tracking.store import UI_COMMAND, open_store
from benchmarks.report import CLASSES, Point, Writer
from tests.servers import serving

INCEPTION = ModelConfig("inception", weights="imagenet", top_block="mixed10")
L2 = RegConfig("l2", l2=0.01)
SMALL = DataConfig("synthetic", image_size=32, train_images=12, validation_images=6, test_images=12, draw_seed=0)


pytestmark = pytest.mark.xdist_group("report")


def _points() -> Iterator[tuple[Point, dict[str, Any]]]:
    """What the store holds; with each what the writer is told of it."""
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


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a store with the experiment `grid`."""
    folder = tmp_path_factory.mktemp("store")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    experiment_id = open_store(uri, "grid")
    writer = Writer(uri, experiment_id)
    for point, told in _points():
        writer.write(point, **told)
    small = Writer(uri, experiment_id, images=12, data=("synthetic", source(SMALL).digest[:16]))
    for point in _small_points():
        small.write(point)
    open_store(uri, "empty")
    Writer(uri, open_store(uri, "one")).write(Point(Config(), 0.7, 1))
    return uri


@pytest.fixture(scope="module")
def reader(store: str) -> Reader:
    return open_reader(store, "grid")


@pytest.fixture(scope="module")
def collected(reader: Reader) -> Collected:
    found = collect(reader, reader.records())
    assign_rows(found.groups, study_rows())
    return found


@pytest.fixture(scope="module")
def tables(collected: Collected) -> list[Table]:
    return make_tables(collected.groups, study_rows())


@pytest.fixture(scope="module")
def against_l2(collected: Collected) -> list[Table]:
    """The tables with a baseline of the user's own."""
    return make_tables(collected.groups, study_rows(), "lenet_l2")


@pytest.fixture(scope="module")
def report(reader: Reader) -> Report:
    return build_report(reader, ReportOptions())


@pytest.fixture(scope="module")
def page(report: Report) -> str:
    return render_page(report)


def _group(collected: Collected, title: str) -> Group:
    (found,) = [group for group in collected.groups if group.title == title and not group.notes]
    return found


def _table(tables: Sequence[Table], key: str) -> Table:
    (found,) = [table for table in tables if table.key == key]
    return found


def _entry(table: Table, title: str) -> Entry:
    return next(entry for entry in table.entries if entry.title == title)


# groups and rows


def test_the_studys_rows_are_what_hydra_composes(composed: Callable[..., Config]) -> None:
    rows = study_rows()
    assert len(rows) == 12
    for name, row in rows.items():
        config = composed(f"study={name}")
        assert row.values == {key: value for key, value in flat_params(config).items() if decides(key)}
        assert config.study
        assert row.reported == config.study.reported


def test_a_run_counts_for_its_row_by_its_values_whatever_its_label(collected: Collected) -> None:
    assert _group(collected, "LeNet + L2 0.01").seeds == [0, 1, 2]


def test_another_precision_is_a_group_of_its_own_noted_beside_the_row(collected: Collected) -> None:
    beside = [group for group in collected.groups if group.row == "inception_frozen"]
    assert [(group.notes, group.seeds) for group in beside] == [([], [0, 1]), (["trainer.precision=bfloat16"], [0])]


def test_what_all_have_beside_their_rows_is_not_said_of_each() -> None:
    rows = study_rows()
    groups = [Group(rows[name].values | {"trainer.deterministic": "true"}, None) for name in ("lenet", "lenet_l2")]
    assign_rows(groups, rows)
    assert [(group.row, group.notes) for group in groups] == [("lenet", []), ("lenet_l2", [])]
    assign_rows(groups[:1], rows)
    assert groups[0].notes == ["trainer.deterministic=true"]


def test_another_data_set_is_no_row_of_the_study(collected: Collected) -> None:
    small = [group for group in collected.groups if group.data and group.data[0] == "synthetic"]
    assert [group.row for group in small] == [None, None]
    assert [group.title for group in small] == ["lenet data.image_size=32", "lenet reg.l2=0.01 data.image_size=32"]


def test_runs_that_did_not_finish_are_told_by_what_became_of_them(collected: Collected) -> None:
    assert _group(collected, "LeNet, kernels 3x3").unfinished == {"oom": 1}
    assert _group(collected, "LeNet + L1 0.01").unfinished == {"diverged": 1}
    assert not _group(collected, "LeNet + L1 0.01").done


def test_figures_are_those_that_the_runs_logged(collected: Collected, reader: Reader) -> None:
    group = _group(collected, "LeNet")
    for run in group.runs:
        metrics = reader.client.get_run(run.run_id).data.metrics
        assert run.test == pytest.approx(metrics["test/accuracy"])
        assert run.validation == pytest.approx(metrics["val/accuracy"])
        assert run.train - run.validation == pytest.approx(metrics["gap/accuracy"], abs=1e-6)
        assert run.curve is not None
        assert len(run.curve.train) == 20
        assert run.curve.boundary is None
    tuned = _group(collected, "Inception-v3, top 2 blocks").runs[0].curve
    assert tuned is not None
    assert (len(tuned.train), tuned.boundary) == (26, 20)


def test_the_later_of_two_runs_with_one_seed_counts(store: str) -> None:
    writer = Writer(store, open_store(store, "twice"))
    for quality in (0.5, 0.9):
        writer.write(Point(Config(), quality, 1))
    reader = open_reader(store, "twice")
    found = collect(reader, reader.records())
    (group,) = found.groups
    latest = reader.client.search_runs([reader.experiment_id], order_by=["attributes.start_time DESC"])[0]
    assert [run.run_id for run in group.runs] == [latest.info.run_id]
    assert "1 finished run(s) repeat the seed" in " ".join(found.problems)


# tables


def test_each_row_is_compared_with_its_tables_baseline_alone(tables: list[Table]) -> None:
    table = _table(tables, "regularization")
    assert [entry.title for entry in table.entries] == [
        "LeNet",
        "LeNet + L1 0.01",
        "LeNet + L2 0.01",
        "LeNet + dropout 0.2",
    ]
    better = _entry(table, "LeNet + L2 0.01").comparison
    assert better is not None
    assert (better.verdict, better.seeds, better.paired_seeds, len(better.mcnemar)) == ("better", (3, 3), True, 3)
    assert _entry(table, "LeNet").comparison is None
    assert _entry(table, "LeNet + L1 0.01").verdict == ("not compared", "LeNet + L1 0.01 has no finished run")
    assert "no predictions of test images" in _entry(table, "LeNet + dropout 0.2").verdict[1]


def test_p_is_corrected_within_a_table(tables: list[Table]) -> None:
    for table in tables:
        values = [entry.comparison for entry in table.entries if entry.comparison]
        for value in values:
            assert value.p <= value.p_holm <= min(1, value.p * len(values) + 1e-12)


def test_a_row_is_compared_with_a_baseline_of_the_same_precision_only(tables: list[Table]) -> None:
    beside = [entry for entry in _table(tables, "transfer").entries if entry.group and entry.group.notes]
    assert [(entry.title, entry.comparison) for entry in beside] == [("Inception-v3, frozen", None)]
    titles = [entry.title for entry in _table(tables, "transfer").entries]
    assert "Inception-v3, top 3 blocks" in titles, "a row without a run is shown"


def test_the_best_of_both_families_are_chosen_by_validation(tables: list[Table], collected: Collected) -> None:
    table = _table(tables, "best")
    lenet, inception = table.entries
    assert (lenet.title, inception.title) == ("LeNet + L2 0.01", "Inception-v3, top 2 blocks")
    every = [group.validation for group in collected.groups if group.values["model.name"] == "inception"]
    assert inception.group is not None
    assert inception.group.validation == max(every)


def test_other_configurations_are_compared_with_the_one_without_regularizer(tables: list[Table]) -> None:
    table = _table(tables, "others")
    compared = _entry(table, "lenet reg.l2=0.01 data.image_size=32")
    assert compared.baseline is not None
    assert compared.baseline.title == "lenet data.image_size=32"
    assert compared.comparison is not None
    assert compared.comparison.images == 12


def test_groups_tested_on_other_images_are_not_paired(against_l2: list[Table]) -> None:
    entries = _table(against_l2, "others").entries
    assert [entry.comparison for entry in entries] == [None, None]
    assert all("tested on other data (synthetic" in entry.verdict[1] for entry in entries)


def test_equal_data_with_other_labels_is_not_paired_either(collected: Collected) -> None:
    group, baseline = _group(collected, "LeNet + L2 0.01"), _group(collected, "LeNet")
    other = {}
    for seed, run in group.done.items():
        assert run.tested
        other[seed] = replace(run, tested=replace(run.tested, labels_digest="other"))
    changed = replace(group, done=other)
    changed.row, changed.title = group.row, group.title
    table = next(table for table in make_tables([baseline, changed], study_rows()) if table.key == "regularization")
    assert "its test labels are not those of LeNet" in _entry(table, "LeNet + L2 0.01").verdict[1]


def test_a_baseline_of_ones_own_takes_the_place_of_every_tables(against_l2: list[Table]) -> None:
    table = _table(against_l2, "regularization")
    assert _entry(table, "LeNet + L2 0.01").comparison is None
    plain = _entry(table, "LeNet").comparison
    assert plain is not None
    assert plain.verdict == "worse"


def test_a_baseline_is_found_by_its_row_its_title_and_a_runs_id(collected: Collected) -> None:
    group = _group(collected, "LeNet + L2 0.01")
    for wanted in ("lenet_l2", "LeNet + L2 0.01", group.runs[1].run_id[:8]):
        assert find_baseline(collected.groups, wanted) is group


def test_a_baseline_that_is_nothing_is_named_with_those_there_are(collected: Collected) -> None:
    with pytest.raises(ConfigError, match=r"--baseline resnet: must be .* Known: .*lenet_l2"):
        find_baseline(collected.groups, "resnet")


def test_cells_say_how_each_interval_was_made_and_mark_a_single_seed(tables: list[Table]) -> None:
    results, *_ = views(_table(tables, "kernel_size"), Scale(0.75, 26))
    headings = [heading for heading, _ in results.headings]
    row = dict(zip(headings, next(row for row in results.rows if row[0].text == "LeNet, kernels 3x3"), strict=True))
    assert row["configuration"].small == "one seed; 1 out of memory"
    assert row["reported"].text == "72.7 %"
    assert row["recognised"].small.startswith("Wilson ")
    assert row["difference"].small.startswith("bootstrap ")
    assert row["verdict"].small
    missing = next(row for row in results.rows if row[0].text == "LeNet, kernels 7x7")
    assert missing[0].small == "no run"


# the page


class _Page(HTMLParser):
    """The parts of a page that the tests look at."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


def test_the_page_asks_for_nothing_from_elsewhere(page: str) -> None:
    parts = _Page(page)
    assert not {"script", "link", "iframe", "object", "base"} & {tag for tag, _ in parts.tags}
    for _, attributes in parts.tags:
        for name in ("src", "href", "xlink:href"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), value
    assert not re.findall(r"url\((?!#)", page)
    policy = next(meta for meta in parts.all("meta") if meta.get("http-equiv"))
    assert str(policy["content"]).startswith("default-src 'none'")


def test_every_link_within_the_page_leads_somewhere_and_ids_are_unique(page: str) -> None:
    parts = _Page(page)
    ids = [attributes["id"] for _, attributes in parts.tags if attributes.get("id")]
    assert len(ids) == len(set(ids))
    used = [str(value) for _, each in parts.tags for name, value in each.items() if name == "href"]
    named = [name for _, each in parts.tags for name in str(each.get("aria-labelledby") or "").split()]
    targets = [value.removeprefix("#") for value in used if value.startswith("#")] + named
    assert targets
    assert set(targets) <= set(ids)


def test_the_page_can_be_heard(page: str) -> None:
    parts = _Page(page)
    assert parts.all("html")[0]["lang"] == "en"
    pictures = parts.all("svg")
    assert len(pictures) > 5
    assert all(svg.get("role") == "img" and svg.get("aria-labelledby") for svg in pictures)
    assert all(image.get("alt") for image in parts.all("img"))
    assert all(head.get("scope") for head in parts.all("th"))
    scrolled = [div for div in parts.all("div") if str(div.get("class")).startswith("wide")]
    assert scrolled
    assert all(div.get("tabindex") == "0" and div.get("role") == "region" for div in scrolled)


def test_the_page_is_light_dark_and_printed(page: str) -> None:
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page
    assert "currentColor" in page
    assert "#010203" not in page, "ink has a colour of its own"


def test_the_page_says_what_is_missing(report: Report, page: str) -> None:
    said = " ".join(report.problems)
    assert "1 finished run(s) have no readable predictions.csv" in said
    assert "configurations have a single seed" in said
    assert "no Grad-CAM: no tested run has a saved model" in said
    assert "test images are not shown" in said
    for problem in report.problems:
        assert problem.split("'")[0][:60] in page


def test_the_summary_says_every_verdict_with_its_interval(report: Report) -> None:
    lines = dict(report.summary)["Regularization"]
    assert re.fullmatch(
        r"LeNet \+ L2 0\.01 against LeNet: better, \+[\d.]+ points \(95 % bootstrap .+ to .+; 3 and 3 seeds\)\.",
        lines[0],
    )


def test_names_of_ones_own_are_text_on_the_page(report: Report) -> None:
    odd = replace(report, title="<script>alert(1)</script>")
    assert "<script>" not in render_page(odd)


def test_csv_files_hold_every_number(report: Report, collected: Collected) -> None:
    rows = {name: list(csv.DictReader(io.StringIO(text))) for name, text in report.files.items()}
    assert len(rows["runs.csv"]) == sum(len(group.done) for group in collected.groups)
    plain = next(row for row in rows["configurations.csv"] if row["configuration"] == "LeNet")
    expected = np.mean([run.test for run in _group(collected, "LeNet").runs])
    assert float(plain["test/accuracy mean"]) == pytest.approx(expected, rel=1e-5)
    assert float(plain["reported test/accuracy"]) == 0.6953
    l2 = next(row for row in rows["comparisons.csv"] if row["configuration"] == "LeNet + L2 0.01")
    assert (l2["baseline"], l2["verdict"], l2["seeds"]) == ("LeNet", "better", "3")
    assert len(l2["mcnemar"].split()) == 3


# pictures


def test_the_studys_own_epochs_lie_under_the_curves() -> None:
    epochs = reported_epochs()
    assert epochs["lenet"].shape == (7, 3)
    assert epochs["lenet"][-1].tolist() == [20, 0.9913, 0.7594]


def test_curves_tell_where_every_line_ends_and_fine_tuning_begins(tables: list[Table]) -> None:
    picture = figures.curves(_table(tables, "transfer"), reported_epochs())
    assert picture is not None
    assert "Inception-v3, top 2 blocks: ends at train" in picture.svg
    assert "The vertical line is where fine-tuning begins" in picture.caption
    assert "epochs that the study printed" in picture.caption
    assert ">epoch</text>" in picture.svg, "text stays text"


def test_pictures_without_anything_to_show_are_left_out() -> None:
    group = Group({"data.train_fraction": "1.0"}, None)
    assert figures.curves(Table("t", "t", "", []), {}) is None
    assert figures.cost([group]) is None
    assert figures.depth([], {}) is None
    assert figures.data_size([group]) is None
    assert figures.reliability([group]) is None


def test_accuracy_against_training_images_joins_what_differs_in_nothing_else(collected: Collected) -> None:
    whole = _group(collected, "LeNet")
    half = replace(whole, values=whole.values | {"data.train_fraction": "0.5"})
    half.title = "half"
    picture = figures.data_size([half, whole])
    assert picture is not None
    assert ">1034</text>" in picture.svg
    assert ">517</text>" in picture.svg


def test_images_that_every_model_misses_are_shown(collected: Collected) -> None:
    small = [group for group in collected.groups if group.data and group.data[0] == "synthetic"]
    found = images.misses(small)
    assert found is not None
    wrong = sum((~tested.right).astype(int) for group in small for tested in group.tested)
    assert found.wrong.tolist() == np.asarray(wrong).tolist()
    assert found.runs == 4
    pixels = images.test_images(small[0], None)
    assert pixels.shape == (12, 32, 32, 3)
    shown = images.missed(found, pixels)
    assert all(tile.data.startswith("data:image/jpeg;base64,") for tile in shown.tiles[0])
    assert base64.b64decode(shown.tiles[0][0].data.partition(",")[2]).startswith(b"\xff\xd8")


def test_images_of_another_data_set_are_not_shown_for_the_runs(collected: Collected) -> None:
    small = next(group for group in collected.groups if group.data and group.data[0] == "synthetic")
    other = replace(small, values=small.values | {"data.draw_seed": "1"})
    with pytest.raises(BeansExpError, match="the images here are not those of synthetic"):
        images.test_images(other, None)


def test_the_parameter_that_decides_is_the_important_one(collected: Collected) -> None:
    base = _group(collected, "LeNet")
    random = np.random.default_rng(0)
    groups = []
    for dropout, rate in random.uniform(0, 1, (30, 2)):
        run = replace(base.runs[0], curve=None, metrics={"val/accuracy": float(dropout)})
        values = base.values | {"reg.dropout": str(dropout), "trainer.learning_rate": str(rate)}
        groups.append(Group(values, None, {0: run}))
    found = importances(groups, ["reg.dropout", "trainer.learning_rate"])
    assert found["reg.dropout"] > 0.8
    assert sum(found.values()) == pytest.approx(1)


# reading


def test_a_sweep_counts_runs_that_it_reused(store: str) -> None:
    experiment_id = open_store(store, "sweeps")
    writer = Writer(store, experiment_id)
    client = mlflow.MlflowClient(store)
    tags = {"beans.sweep": "f00dfeedf00dfeed", "beans.role": "sweep"}
    parent = client.create_run(experiment_id, tags=tags, run_name="reg=none,l2").info.run_id
    reused = writer.write(Point(Config(), 0.6, 30))
    own = writer.write(Point(Config(reg=L2), 0.9, 30), parent=parent, sweep="f00dfeedf00dfeed")
    stranger = writer.write(Point(Config(seed=9), 0.9, 30))
    lines = [
        "fingerprint,run_id,status,origin",
        f"a,{reused},finished,reused",
        f"b,{own},finished,trained",
        "c,,not run,",
    ]
    client.log_text(parent, "\n".join(lines), "jobs.csv")
    reader = open_reader(store, "sweeps")
    for name in (parent, parent[:8], "f00dfeedf00dfeed"):
        found = {record.run_id for record in reader.records(sweep=reader.sweep(name))}
        assert found == {reused, own}, f"without {stranger}"
    main(["sweeps", "--sweep", parent[:8], "--tracking-uri", store, "--no-images"])
    assert {item.path for item in client.list_artifacts(parent, "report")} == {
        f"report/{name}" for name in ("report.html", "report.md", "runs.csv", "configurations.csv", "comparisons.csv")
    }
    assert "1 job(s) of the sweep have no run (not run)" in Path("report/report.md").read_text()
    with pytest.raises(StoreError, match=f"abcdefgh is no sweep of the experiment sweeps. Known: {parent[:8]}"):
        reader.sweep("abcdefgh")


def test_a_filter_chooses_runs(reader: Reader) -> None:
    found = list(reader.records("params.`model.name` = 'inception' and params.seed = '0'"))
    assert {record.params["model.name"] for record in found} == {"inception"}
    assert len(found) == 3


def test_a_server_gives_the_same_report(store: str, reader: Reader, tmp_path: Path) -> None:
    folder = Path(store.removeprefix("sqlite:///")).parent
    command = UI_COMMAND.format(uri=store, artifacts=folder / "artifacts")
    with serving(command, tmp_path, "/health") as address:
        remote = open_reader(address, "grid")
        here, there = (collect(one, one.records()) for one in (reader, remote))
        assert [group.values for group in there.groups] == [group.values for group in here.groups]
        for ours, theirs in zip(here.groups, there.groups, strict=True):
            assert [run.test for run in theirs.runs] == [run.test for run in ours.runs]
        assert str(remote.page("abc")).startswith(f"{address}/#/experiments/")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "its header is"),
        ("index,label\n", "its header is index,label"),
        ("index,label,predicted,p_a,p_b\n", "it has no line"),
        ("index,label,predicted,p_a,p_b\n0,a,c,0.5,0.5\n", "not in tuple"),
        ("index,label,predicted,p_a,p_b\n0,a,b,0.5,much\n", "could not convert"),
        ("index,label,predicted,p_a,p_b\n0,a\n", "a line has not as many values"),
    ],
)
def test_damaged_predictions_are_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_predictions(text)


def test_damaged_predictions_of_one_run_cost_only_its_test(store: str) -> None:
    writer = Writer(store, open_store(store, "damaged"))
    whole, broken = (writer.write(Point(Config(seed=seed), 0.8, 1)) for seed in range(2))
    writer.client.log_text(broken, "index,label,predicted,p_a,p_b\n0,a", "predictions.csv")
    reader = open_reader(store, "damaged")
    found = collect(reader, reader.records())
    (group,) = found.groups
    assert group.results is not None
    assert (group.seeds, group.results.seeds) == ([0, 1], (0,)), whole
    assert any(f"predictions.csv of run {broken[:8]} is damaged" in problem for problem in found.problems)


# the command


def test_the_command_writes_the_page_and_says_its_verdicts(
    store: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    main(["grid", "--tracking-uri", store, "--out", "made/here", "--no-images", "--threshold", "0.6"])
    printed = capsys.readouterr().out
    assert "LeNet + L2 0.01 against LeNet: better" in printed
    assert f"open {tmp_path / 'made/here/report.html'}" in printed
    names = {file.name for file in Path("made/here").iterdir()}
    assert names == {"report.html", "report.md", "runs.csv", "configurations.csv", "comparisons.csv"}
    assert "epochs to 60 %" in Path("made/here/report.md").read_text()
    for line in Path("made/here/report.md").read_text().splitlines():
        assert "{{" not in line


def test_the_tables_of_the_markdown_have_as_many_cells_in_each_line(report: Report) -> None:
    for block in re.findall(r"(?:^\|.*\n)+", render_markdown(report), flags=re.MULTILINE):
        counts = {line.replace("\\|", "").count("|") for line in block.splitlines()}
        assert len(counts) == 1, block


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["empty"], "no run to report: the experiment empty has none"),
        (
            ["grid", "--filter", "params.seed = '99'"],
            "no run to report: the experiment grid with params.seed = '99' has",
        ),
        (["grid", "--filter", "this is no filter"], "Invalid"),
        (["nothing"], "has no experiment nothing. It has Default"),
        (["grid", "--sweep", "12345678"], "12345678 is no sweep of the experiment grid"),
        (["one", "--baseline", "resnet"], "--baseline resnet: must be"),
        (["one", "--out", "file/report", "--no-images"], "the report cannot be written"),
    ],
)
def test_bad_input_is_one_message(
    store: str, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("file").write_text("in the folder's place")
    with pytest.raises(SystemExit) as ended:
        main([*words, "--tracking-uri", store])
    assert ended.value.code == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1


def test_a_folder_without_a_store_is_named_and_nothing_is_made(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([])
    assert "there is no store" in capsys.readouterr().err
    assert not Path("mlruns").exists()


def test_runs_that_all_failed_make_a_page_that_says_so(store: str) -> None:
    writer = Writer(store, open_store(store, "failed"))
    writer.write(Point(Config(), 0.5, 1), status="failed")
    writer.write(Point(Config(reg=L2), 0.5, 1), status="pruned")
    main(["failed", "--tracking-uri", store])
    page = Path("report/report.html").read_text()
    assert "Nothing could be compared" in page
    assert "1 failed" in page
    assert "1 pruned" in page


def test_times_of_runs_with_other_threads_are_said_not_to_compare(store: str) -> None:
    writer = Writer(store, open_store(store, "threads"))
    for number, threads in enumerate(("2", "16")):
        run_id = writer.write(Point(Config(seed=number), 0.5, 1))
        writer.client.set_tag(run_id, "beans.threads", threads)
    main(["threads", "--tracking-uri", store, "--no-images"])
    assert "runs computed with 2 or 16 threads: their times do not compare" in Path("report/report.html").read_text()


def test_one_run_with_one_seed_makes_a_page(store: str) -> None:
    main(["one", "--tracking-uri", store, "--no-images"])
    page = Path("report/report.html").read_text()
    assert "Every configuration has a single seed" in page


def test_the_classes_are_those_of_the_predictions(collected: Collected) -> None:
    assert _group(collected, "LeNet").tested[0].classes == CLASSES
