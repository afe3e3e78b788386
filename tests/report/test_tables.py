"""Tables and their comparisons: planned baselines, contrasts of families, unregularized twins, all pairs, the best."""

import re
from dataclasses import replace

import pytest

from beans_exp.errors import ConfigError
from beans_exp.report.columns.cells import Cell
from beans_exp.report.columns.views import View, views
from beans_exp.report.entries import Entry, Table
from beans_exp.report.runs.collect import Collected
from beans_exp.report.runs.convergence import Scale
from beans_exp.report.runs.groups import FinishedRun, Group
from beans_exp.report.studies.study import PlannedTable, Study
from beans_exp.report.tables import find_baseline, make_tables
from beans_exp.report.titles import assign_rows
from tests.report.conftest import entry_of, group_of, table_of

pytestmark = pytest.mark.xdist_group("report")

SCALE = Scale(0.75, 26)


@pytest.fixture(scope="module")
def against_l2(collected: Collected, studies: list[Study]) -> list[Table]:
    """The tables with a baseline chosen by the user."""
    return make_tables(collected.groups, studies, "lenet_l2")


def test_each_row_is_compared_only_with_the_baseline_of_its_table(tables: list[Table]) -> None:
    table = table_of(tables, "regularization")
    assert [entry.title for entry in table.entries] == [
        "LeNet",
        "LeNet + L1 0.01",
        "LeNet + L2 0.01",
        "LeNet + dropout 0.2",
    ]
    better = entry_of(table, "LeNet + L2 0.01").comparison
    assert better is not None
    assert (better.verdict, better.seeds, len(better.mcnemar)) == ("better", (3, 3), 3)
    assert entry_of(table, "LeNet").comparison is None
    assert entry_of(table, "LeNet + L1 0.01").verdict == ("not compared", "LeNet + L1 0.01 has no finished run")
    assert "no predictions of test images" in entry_of(table, "LeNet + dropout 0.2").verdict[1]


def test_p_is_corrected_for_all_comparisons_of_the_page(tables: list[Table]) -> None:
    compared = [entry for table in tables for entry in table.compared if entry.comparison]
    sides = {frozenset((entry.group, entry.baseline.group)) for entry in compared if entry.baseline}
    found = [entry.comparison for entry in compared if entry.comparison]
    assert len(sides) > max(len(table.compared) for table in tables)
    assert {comparison.family for comparison in found} == {len(sides)}
    for comparison in found:
        assert comparison.p <= comparison.p_holm <= min(1, comparison.p * len(sides) + 1e-12)
    least = min(found, key=lambda comparison: comparison.p)
    assert least.p_holm == pytest.approx(min(1, least.p * len(sides)))


def test_a_comparison_in_two_tables_counts_once(collected: Collected, studies: list[Study]) -> None:
    plans = [PlannedTable(key, key, "", ("lenet", "lenet_l2"), "lenet") for key in ("one", "two")]
    plan = replace(studies[0], tables=plans, contrasts=[])
    groups = [group_of(collected, title) for title in ("LeNet", "LeNet + L2 0.01")]
    found = [table.entries[1].comparison for table in make_tables(groups, [plan])]
    assert len(found) == 2
    for comparison in found:
        assert comparison is not None
        assert (comparison.family, comparison.p_holm) == (1, comparison.p)


def test_a_row_is_compared_only_with_a_baseline_of_the_same_precision(tables: list[Table]) -> None:
    beside = [entry for entry in table_of(tables, "transfer").entries if entry.notes]
    assert [(entry.title, entry.comparison) for entry in beside] == [("Inception-v3, frozen", None)]
    titles = [entry.title for entry in table_of(tables, "transfer").entries]
    assert "Inception-v3, top 3 blocks" in titles, "a row without a run is shown"


def test_a_contrast_compares_the_best_of_both_families_by_validation(tables: list[Table], collected: Collected) -> None:
    table = table_of(tables, "best")
    lenet, inception = table.entries
    assert (lenet.title, inception.title) == ("LeNet + L2 0.01", "Inception-v3, top 2 blocks")
    every = [group.validation for group in collected.groups if group.values["model.name"] == "inception"]
    assert inception.group is not None
    assert inception.group.validation == max(every)
    assert inception.baseline is lenet


def test_other_configurations_are_compared_with_their_unregularized_twin(tables: list[Table]) -> None:
    table = table_of(tables, "others")
    compared = entry_of(table, "lenet reg.l2=0.01 data.image_size=32")
    assert compared.baseline is table.entries[0]
    assert compared.baseline.title == "lenet data.image_size=32"
    assert compared.comparison is not None
    assert compared.comparison.images == 12
    assert table.rule == "Each row is compared with its unregularized twin, or else with the baseline in the first row."


def test_groups_tested_on_different_images_are_not_paired(against_l2: list[Table]) -> None:
    entries = table_of(against_l2, "others").entries
    assert [entry.comparison for entry in entries] == [None, None]
    assert all("tested on other data (synthetic" in entry.verdict[1] for entry in entries)


def test_equal_data_with_different_labels_is_not_paired(collected: Collected, studies: list[Study]) -> None:
    group, baseline = group_of(collected, "LeNet + L2 0.01"), group_of(collected, "LeNet")
    other = {}
    for seed, run in group.done.items():
        assert run.tested
        other[seed] = replace(run, tested=replace(run.tested, labels_digest="other"))
    changed = replace(group, done=other)
    table = table_of(make_tables([baseline, changed], studies), "regularization")
    assert "its test labels differ from those of LeNet" in entry_of(table, "LeNet + L2 0.01").verdict[1]


def test_a_chosen_baseline_replaces_those_of_all_tables(against_l2: list[Table]) -> None:
    table = table_of(against_l2, "regularization")
    assert entry_of(table, "LeNet + L2 0.01").comparison is None
    plain = entry_of(table, "LeNet").comparison
    assert plain is not None
    assert plain.verdict == "worse"
    assert {each.rule for each in against_l2} == {"Each row is compared with LeNet + L2 0.01, set by --baseline."}


def test_a_baseline_is_found_by_its_row_its_title_or_the_id_of_a_run(collected: Collected) -> None:
    group = group_of(collected, "LeNet + L2 0.01")
    for wanted in ("lenet_l2", "LeNet + L2 0.01", group.runs[1].run_id[:8]):
        assert find_baseline(collected.groups, wanted) is group


def test_an_unknown_baseline_is_an_error_that_lists_the_known_ones(collected: Collected) -> None:
    with pytest.raises(ConfigError, match=r"--baseline=resnet: must be .* Known: .*lenet_l2"):
        find_baseline(collected.groups, "resnet")


# without a planned baseline


def _variant(group: Group, validation: float, **values: str) -> Group:
    """Return `group` with other values, and runs whose validation accuracy is `validation`."""
    changed = {key.replace("__", "."): value for key, value in values.items()}
    runs = {seed: _validated(run, validation) for seed, run in group.done.items()}
    return Group(group.values | changed, group.data, runs)


def _validated(run: FinishedRun, validation: float) -> FinishedRun:
    return replace(run, curve=None, metrics=run.metrics | {"val/accuracy": validation})


def _rates(collected: Collected, count: int) -> list[Group]:
    """Return `count` configurations without a row or regularizer, the worst by validation first."""
    lenet = group_of(collected, "LeNet")
    return [
        _variant(lenet, 0.5 + 0.05 * number, kernel__size="9", trainer__batch_size=str(number + 1))
        for number in range(count)
    ]


def _others(groups: list[Group], studies: list[Study]) -> Table:
    assign_rows(groups, studies)
    return table_of(make_tables(groups, studies), "others")


def test_up_to_four_configurations_without_a_twin_are_compared_in_all_pairs(
    collected: Collected, studies: list[Study]
) -> None:
    table = _others(_rates(collected, 4), studies)
    assert table.rule == "No row has an unregularized twin, so all pairs are compared."
    pairs = [(pair.title, pair.baseline.title) for pair in table.pairs if pair.baseline]
    titles = [entry.title for entry in table.entries]
    assert pairs == [(titles[i], titles[j]) for i in range(4) for j in range(i + 1, 4)]
    assert [entry.baseline for entry in table.entries] == [None] * 4
    values = [pair.comparison for pair in table.pairs]
    assert all(value and value.family == 6 for value in values)
    least = min((value for value in values if value), key=lambda value: value.p)
    assert least.p_holm == pytest.approx(min(1, 6 * least.p))


def test_the_pairs_are_a_view_of_their_own(collected: Collected, studies: list[Study]) -> None:
    results, pairs, *_ = views(_others(_rates(collected, 3), studies), SCALE)
    headings = ["configuration", "seeds", "measured", "correct", "new images and seeds", "one more training"]
    assert [heading for heading, _ in results.headings] == headings
    assert (pairs.title, len(pairs.rows)) == ("All pairs", 3)
    assert [row[0].small[:7] for row in pairs.rows] == ["against"] * 3


def test_more_than_four_are_compared_with_the_best_by_validation(collected: Collected, studies: list[Study]) -> None:
    groups = _rates(collected, 5)
    table = _others(groups, studies)
    assert table.entries[0].group is groups[-1]
    assert [entry.baseline for entry in table.entries] == [None, *[table.entries[0]] * 4]
    assert not table.pairs
    assert table.rule.endswith("each is compared with the best by validation accuracy, in the first row.")


def test_a_twin_can_be_a_row_of_a_study(collected: Collected, studies: list[Study]) -> None:
    lenet = group_of(collected, "LeNet")
    regularized = _variant(lenet, 0.9, reg__l2="0.5")
    table = _others([lenet, regularized], studies)
    assert [entry.title for entry in table.entries] == ["LeNet", "lenet reg.l2=0.5"]
    assert table.entries[1].baseline is table.entries[0]


def test_of_several_twins_the_most_used_one_is_in_the_first_row(collected: Collected, studies: list[Study]) -> None:
    lenet = group_of(collected, "LeNet")
    small, large = (_variant(lenet, 0.5, kernel__size=size) for size in ("9", "11"))
    regularized = [
        _variant(lenet, 0.6, kernel__size="9", reg__l2="0.5"),
        _variant(lenet, 0.7, kernel__size="11", reg__l2="0.5"),
        _variant(lenet, 0.8, kernel__size="11", reg__l1="0.5"),
    ]
    table = _others([small, large, *regularized], studies)
    assert table.entries[0].group is large
    baselines = {id(entry.group): entry.baseline.group for entry in table.entries if entry.baseline}
    assert [baselines[id(group)] for group in regularized] == [small, large, large]
    assert baselines[id(small)] is large


def test_a_configuration_with_nothing_to_compare_it_with_says_so(collected: Collected, studies: list[Study]) -> None:
    table = _others(_rates(collected, 1), studies)
    assert table.rule == "Nothing is compared: fewer than two configurations have a finished run."


def test_a_planned_table_without_a_baseline_compares_all_pairs(collected: Collected, studies: list[Study]) -> None:
    plan = PlannedTable("sizes", "Sizes", "", ("lenet", "lenet_k3"), None)
    tables = make_tables(collected.groups, [replace(studies[0], tables=[plan])])
    assert [pair.title for pair in table_of(tables, "sizes").pairs] == ["LeNet"]


# cells


def _row(view: View, title: str) -> dict[str, Cell]:
    cells = next(row for row in view.rows if row[0].text == title)
    return dict(zip((heading for heading, _ in view.headings), cells, strict=True))


def test_cells_name_the_method_of_each_interval_and_mark_a_single_seed(tables: list[Table]) -> None:
    results, *_ = views(table_of(tables, "kernel_size"), SCALE)
    row = _row(results, "LeNet, kernels 3x3")
    assert row["configuration"].small == "one seed; 1 out of memory"
    assert row["reported"].text == "72.7 %"
    assert row["correct"].small.startswith("Wilson, this training on new images: ")
    assert row["difference"].small == "one seed: no interval"
    assert row["verdict"].text.startswith("these two trainings")
    assert (row["new images and seeds"].text, row["one more training"].text, row["uncertainty"].text) == ("-",) * 3
    missing = next(row for row in results.rows if row[0].text == "LeNet, kernels 7x7")
    assert missing[0].small == "no run"


def test_cells_of_several_seeds_have_intervals_and_the_sources_of_the_variance(tables: list[Table]) -> None:
    row = _row(views(table_of(tables, "regularization"), SCALE)[0], "LeNet + L2 0.01")
    assert row["correct"].small == ""
    assert re.fullmatch(r"[\d.]+ to [\d.]+ %", row["new images and seeds"].text)
    assert re.fullmatch(r"[\d.]+ to [\d.]+ %", row["one more training"].text)
    assert re.fullmatch(r"t \+[\d.]+ to \+[\d.]+", row["difference"].small)
    assert re.fullmatch(r"images \d+ %, seeds \d+ %, both \d+ %", row["uncertainty"].text)
    assert sum(row["uncertainty"].bar) == pytest.approx(1)
    assert "would help" in row["uncertainty"].small


def test_a_difference_on_fewer_runs_than_the_mean_says_so(collected: Collected, studies: list[Study]) -> None:
    group, baseline = group_of(collected, "LeNet + L2 0.01"), group_of(collected, "LeNet")
    fewer = replace(group, done=group.done | {2: replace(group.done[2], tested=None)})
    table = table_of(make_tables([baseline, fewer], studies), "regularization")
    row = _row(views(table, SCALE)[0], "LeNet + L2 0.01")
    assert row["difference"].small.endswith("; on 2 of 3 and 3 of 3 runs, those with predictions")
    assert row["correct"].small == "2 of 3 runs have predictions"


def test_gaps_are_compared_and_corrected_apart_from_accuracies(collected: Collected, studies: list[Study]) -> None:
    sides = {"LeNet": [0.30, 0.31, 0.29], "LeNet + L2 0.01": [0.10, 0.11, 0.12], "Inception-v3, frozen": [0.1, 0.2]}
    groups = [_gapped(group_of(collected, title), gaps) for title, gaps in sides.items()]
    table = table_of(make_tables(groups, studies), "regularization")
    gap = entry_of(table, "LeNet + L2 0.01").gap
    assert gap is not None
    assert (gap.verdict, gap.seeds) == ("narrower", (3, 3))
    assert gap.p_holm == pytest.approx(2 * gap.p), "the contrast of families compares a gap, too"
    row = _row(views(table, SCALE)[1], "LeNet + L2 0.01")
    assert row["gap difference"].text == "-19.0"
    assert re.fullmatch(r"t -[\d.]+ to -[\d.]+; p .+: narrower", row["gap difference"].small)


def _gapped(group: Group, gaps: list[float]) -> Group:
    """Return `group`, whose first runs have these gaps in inference mode."""
    runs = dict(group.done)
    for (seed, run), gap in zip(group.done.items(), gaps, strict=False):
        runs[seed] = replace(run, metrics=run.metrics | {"gap/eval_accuracy": gap, "eval/train_accuracy": 0.5 + gap})
    return replace(group, done=runs)


def _with_gaps(group: Group, gaps: list[float]) -> Table:
    return Table("t", "t", "", [Entry("LeNet", _gapped(group, gaps))])


@pytest.mark.parametrize(
    ("gaps", "text", "small"),
    [
        ([0.1, 0.2, 0.3], "+20.0", "sd 10.0; t -4.8 to +44.8"),
        ([0.1, 0.2], "+15.0", "sd 7.1; t -48.5 to +78.5; 2 of 3 seeds"),
        ([], None, "running training accuracy"),
    ],
)
def test_the_gap_is_that_in_inference_mode_or_labelled(
    gaps: list[float], text: str | None, small: str, collected: Collected
) -> None:
    learning = views(_with_gaps(group_of(collected, "LeNet"), gaps), SCALE)[1]
    row = _row(learning, "LeNet")
    assert row["gap"].small.endswith(small)
    assert text is None or row["gap"].text == text
    assert ("train, inference mode" in row) == bool(gaps)
