"""Runs read from a store: gathered into configurations, matched with the rows of a study, damaged or unfinished."""

from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest

from beans_exp.errors import StoreError
from beans_exp.metrics import BY_NAME
from beans_exp.report.__main__ import main
from beans_exp.report.deciding import decides
from beans_exp.report.runs.collect import Collected, collect
from beans_exp.report.runs.groups import METRICS, Group
from beans_exp.report.studies.study import Study
from beans_exp.report.titles import assign_rows
from beans_exp.schema import Config
from beans_exp.tracking.params import flat_params
from beans_exp.tracking.reader import Reader, open_reader, parse_predictions
from beans_exp.tracking.store import open_store
from tests.report.conftest import L2, group_of
from tests.report.simulated import CLASSES, Point, Writer
from tests.servers import SERVER_COMMAND, serving

pytestmark = pytest.mark.xdist_group("report")


def test_the_rows_of_the_study_are_those_that_hydra_composes(
    composed: Callable[..., Config], studies: list[Study]
) -> None:
    (study,) = studies
    assert len(study.rows) == 12
    for name, row in study.rows.items():
        config = composed(f"study={name}")
        assert row.values == {key: value for key, value in flat_params(config).items() if decides(key)}
        assert config.study
        assert config.study.report == study.name
        assert row.reported == config.study.reported


def test_a_run_counts_for_its_row_by_its_values_whatever_its_label(collected: Collected) -> None:
    assert group_of(collected, "LeNet + L2 0.01").seeds == [0, 1, 2]


def test_a_different_precision_is_a_separate_group_with_a_note(collected: Collected) -> None:
    beside = [group for group in collected.groups if group.row == "inception_frozen"]
    assert [(group.notes, group.seeds) for group in beside] == [([], [0, 1]), (["trainer.precision=bfloat16"], [0])]


def test_a_difference_that_all_groups_share_is_not_noted(studies: list[Study]) -> None:
    rows = studies[0].rows
    groups = [Group(rows[name].values | {"trainer.deterministic": "true"}, None) for name in ("lenet", "lenet_l2")]
    assign_rows(groups, studies)
    assert [(group.row, group.notes) for group in groups] == [("lenet", []), ("lenet_l2", [])]
    assign_rows(groups[:1], studies)
    assert groups[0].notes == ["trainer.deterministic=true"]


def test_an_option_that_the_row_does_not_know_is_noted(studies: list[Study]) -> None:
    values = studies[0].rows["lenet"].values
    groups = [Group(values, None), Group(values | {"reg.mixup": "0.2"}, None)]
    assign_rows(groups, studies)
    assert [(group.title, group.notes) for group in groups] == [("LeNet", []), ("LeNet", ["reg.mixup=0.2"])]


def test_runs_on_another_data_set_are_not_a_row_of_the_study(collected: Collected) -> None:
    small = [group for group in collected.groups if group.data and group.data[0] == "synthetic"]
    assert [group.row for group in small] == [None, None]
    assert [group.title for group in small] == ["lenet data.image_size=32", "lenet reg.l2=0.01 data.image_size=32"]


def test_unfinished_runs_are_counted_by_their_status(collected: Collected) -> None:
    assert group_of(collected, "LeNet, kernels 3x3").unfinished == {"oom": 1}
    assert group_of(collected, "LeNet + L1 0.01").unfinished == {"diverged": 1}
    assert not group_of(collected, "LeNet + L1 0.01").done


def test_figures_equal_the_metrics_that_the_runs_logged(collected: Collected, reader: Reader) -> None:
    group = group_of(collected, "LeNet")
    for run in group.runs:
        metrics = reader.client.get_run(run.run_id).data.metrics
        assert run.test == pytest.approx(metrics["test/accuracy"])
        assert run.validation == pytest.approx(metrics["val/accuracy"])
        assert run.train - run.validation == pytest.approx(metrics["gap/accuracy"], abs=1e-6)
        assert run.curve is not None
        assert len(run.curve.train) == 20
        assert run.curve.boundary is None
    tuned = group_of(collected, "Inception-v3, top 2 blocks").runs[0].curve
    assert tuned is not None
    assert (len(tuned.train), tuned.boundary) == (26, 20)


def test_every_metric_of_a_run_is_kept_and_of_the_epochs_only_the_last_accuracies() -> None:
    assert {"eval/train_accuracy", "gap/eval_accuracy", "gap/accuracy"} <= set(METRICS)
    assert {name for name in METRICS if BY_NAME[name].per_epoch} == {"train/accuracy", "val/accuracy"}
    assert {name for name, metric in BY_NAME.items() if not metric.per_epoch} <= set(METRICS)


def test_the_later_of_two_runs_with_the_same_seed_counts(store: str) -> None:
    writer = Writer(store, open_store(store, "twice"))
    for quality in (0.5, 0.9):
        writer.write(Point(Config(), quality, 1))
    reader = open_reader(store, "twice")
    found = collect(reader, reader.records())
    (group,) = found.groups
    latest = reader.client.search_runs([reader.experiment_id], order_by=["attributes.start_time DESC"])[0]
    assert [run.run_id for run in group.runs] == [latest.info.run_id]
    assert "1 finished run(s) were left out: a later run" in " ".join(found.problems)


def test_the_classes_are_those_of_the_predictions(collected: Collected) -> None:
    assert group_of(collected, "LeNet").tested[0].classes == CLASSES


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


def test_a_filter_selects_runs(reader: Reader) -> None:
    found = list(reader.records("params.`model.name` = 'inception' and params.seed = '0'"))
    assert {record.params["model.name"] for record in found} == {"inception"}
    assert len(found) == 3


def test_a_server_returns_the_same_runs(store: str, reader: Reader, tmp_path: Path) -> None:
    folder = Path(store.removeprefix("sqlite:///")).parent
    command = SERVER_COMMAND.format(uri=store, artifacts=folder / "artifacts")
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
        ("index,label,predicted,p_a,p_b\n0,a,b,0.5,0.5\n1,a,b,nan,nan\n", "the probabilities of image 1 are nan,nan"),
        ("index,label,predicted,p_a,p_b\n7,a,b,0.0,0.0\n", "the probabilities of image 7 are 0.0,0.0"),
        ("index,label,predicted,p_a,p_b\n7,a,b,-0.5,1.5\n", "the probabilities of image 7 are -0.5,1.5"),
        ("index,label,predicted,p_a,p_b\n0,a\n", "a line has not as many values"),
    ],
)
def test_damaged_predictions_are_rejected(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_predictions(text)


@pytest.mark.parametrize("text", ["0,a,b,nan,nan", "0,a,b,0,0", ""], ids=["nan", "zeros", "no image"])
def test_a_run_without_usable_predictions_is_reported_without_them(text: str, store: str) -> None:
    writer = Writer(store, open_store(store, f"unusable {text[6:9]}"))
    run_id = writer.write(Point(Config(), 0.8, 1))
    writer.client.log_text(run_id, f"index,label,predicted,p_a,p_b\n{text}", "predictions.csv")
    reader = open_reader(store, f"unusable {text[6:9]}")
    found = collect(reader, reader.records())
    (group,) = found.groups
    assert (group.results, len(group.done)) == (None, 1)
    assert any(f"predictions.csv of run {run_id[:8]} is damaged" in problem for problem in found.problems)


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
