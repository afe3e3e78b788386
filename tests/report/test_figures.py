"""The figures: their content, and one colour and marker for each configuration."""

import base64
import re
from dataclasses import replace

import numpy as np
import pytest

from beans_exp.errors import BeansExpError
from beans_exp.report.entries import Entry, Table
from beans_exp.report.figures import images
from beans_exp.report.figures.against import cost, data_size, trend
from beans_exp.report.figures.curves import curves
from beans_exp.report.figures.heatmaps import families
from beans_exp.report.figures.looks import COLOURS, Palette, nth_look
from beans_exp.report.figures.panels import reliability
from beans_exp.report.figures.search import importances, search_pictures
from beans_exp.report.figures.svg import Picture
from beans_exp.report.runs.collect import Collected
from beans_exp.report.runs.groups import FinishedRun, Group
from beans_exp.report.studies.study import Study
from tests.report.conftest import group_of, table_of

pytestmark = pytest.mark.xdist_group("report")


def test_the_printed_epochs_of_the_study_are_read(studies: list[Study]) -> None:
    epochs = studies[0].epochs
    assert epochs["lenet"].shape == (7, 3)
    assert epochs["lenet"][-1].tolist() == [20, 0.9913, 0.7594]


def test_curves_show_where_every_line_ends_and_fine_tuning_begins(tables: list[Table], studies: list[Study]) -> None:
    picture = curves(table_of(tables, "transfer"), studies[0].epochs, Palette())
    assert picture is not None
    assert "Inception-v3, top 2 blocks: ends at train" in picture.svg
    assert "Vertical line: start of fine-tuning" in picture.caption
    assert "epochs that the study printed" in picture.caption
    assert ">epoch</text>" in picture.svg, "text stays text"


def test_figures_without_content_are_left_out(studies: list[Study]) -> None:
    group = Group({"data.train_fraction": "1.0"}, None)
    palette = Palette()
    assert curves(Table("t", "t", "", []), {}, palette) is None
    assert cost([group], palette) is None
    assert trend(studies[0].trends[0], studies[0], []) is None
    assert data_size([group], palette) is None
    assert reliability([group], palette) is None


def _colours(picture: Picture | None) -> set[str]:
    assert picture is not None
    return {colour for colour in COLOURS if re.search(rf"(stroke|fill): {colour}", picture.svg)}


def test_a_configuration_has_the_same_colour_in_every_figure(tables: list[Table], collected: Collected) -> None:
    palette = Palette()
    table = table_of(tables, "regularization")
    drawn = curves(table, {}, palette)
    looks = dict(palette.given)
    dropout = group_of(collected, "LeNet + dropout 0.2")
    look = palette.look(dropout.key)
    assert looks[dropout.key] == look
    assert look.colour in _colours(drawn)
    assert _colours(cost([dropout], palette)) == {look.colour}
    l2 = group_of(collected, "LeNet + L2 0.01")
    assert _colours(reliability([l2], palette)) == {palette.look(l2.key).colour}
    whole = replace(l2, values=l2.values | {"data.train_fraction": "0.5"})
    assert _colours(data_size([l2, whole], palette)) == {palette.look(l2.key).colour}


def test_the_first_ninety_six_looks_differ_in_colour_or_marker() -> None:
    looks = [nth_look(number) for number in range(96)]
    assert len({(look.colour, look.marker) for look in looks}) == 96


def test_accuracy_against_training_images_joins_configurations_that_differ_in_nothing_else(
    collected: Collected,
) -> None:
    whole = group_of(collected, "LeNet")
    half = replace(whole, values=whole.values | {"data.train_fraction": "0.5"}, title="half")
    picture = data_size([half, whole], Palette())
    assert picture is not None
    assert ">1034</text>" in picture.svg
    assert ">517</text>" in picture.svg


def test_a_trend_shows_the_rows_by_the_key_that_they_vary(collected: Collected, studies: list[Study]) -> None:
    picture = trend(studies[0].trends[0], studies[0], collected.groups)
    assert picture is not None
    assert picture.key == "depth"
    assert "unfrozen blocks, from the top 2: test" in picture.svg
    assert ">test, reported</text>" in picture.svg


def test_a_trend_takes_every_value_that_has_runs_and_marks_the_choice_of_a_search(
    collected: Collected, studies: list[Study]
) -> None:
    top2 = group_of(collected, "Inception-v3, top 2 blocks")
    top5 = replace(top2, values=top2.values | {"finetune.blocks": "5"}, matches=[])
    slower = replace(top5, values=top5.values | {"finetune.blocks": "7", "finetune.learning_rate": "1e-06"})
    groups = [*collected.groups, top5, slower]
    plain = trend(studies[0].trends[0], studies[0], groups)
    assert plain is not None
    assert re.findall(r"from the top (\d+): test", plain.svg) == ["0", "2", "5"]
    assert "search" not in plain.caption
    chosen = trend(studies[0].trends[0], studies[0], [*collected.groups, top5], {top5.runs[0].run_id})
    assert chosen is not None
    assert "5, the choice of a search" in chosen.caption


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


def test_images_of_another_data_set_are_not_shown(collected: Collected) -> None:
    small = next(group for group in collected.groups if group.data and group.data[0] == "synthetic")
    other = replace(small, values=small.values | {"data.draw_seed": "1"})
    with pytest.raises(BeansExpError, match="the images here are not those of synthetic"):
        images.test_images(other, None)


def test_unknown_models_come_after_the_known_ones(collected: Collected) -> None:
    group = group_of(collected, "LeNet")
    saved = {seed: replace(run, has_model=True) for seed, run in group.done.items()}
    models = ["vgg", "lenet5", "resnet", "inception", "lenet"]
    groups = [replace(group, values=group.values | {"model.name": model}, done=saved) for model in models]
    found = [seen.group.values["model.name"] for seen in families(groups)]
    assert found == ["lenet", "inception", "lenet5", "resnet", "vgg"]


def _accuracy(group: Group, validation: float) -> dict[int, FinishedRun]:
    """Return a run of `group` with this validation accuracy."""
    return {0: replace(group.runs[0], curve=None, metrics={"val/accuracy": validation})}


def test_a_search_over_an_option_that_some_runs_do_not_have_is_drawn(collected: Collected) -> None:
    base = group_of(collected, "LeNet")
    groups = [
        Group(base.values | {"trainer.learning_rate": str(number)}, None, _accuracy(base, number / 20))
        for number in range(1, 11)
    ]
    groups[0].values["reg.mixup"] = "0.2"
    pictures = search_pictures(Table("t", "t", "", [Entry(group.title, group) for group in groups]))
    assert [picture.key for picture in pictures] == ["t-importance", "t-parallel"]
    assert "reg.mixup" in pictures[1].svg


def test_a_search_whose_accuracies_are_all_equal_has_no_importance(collected: Collected) -> None:
    base = group_of(collected, "LeNet")
    rates = [{"trainer.learning_rate": str(number), "trainer.batch_size": str(number)} for number in range(1, 11)]
    groups = [Group(base.values | values, None, _accuracy(base, 0.5)) for values in rates]
    assert not search_pictures(Table("t", "t", "", [Entry(group.title, group) for group in groups]))


def test_the_decisive_parameter_is_the_most_important_one(collected: Collected) -> None:
    base = group_of(collected, "LeNet")
    random = np.random.default_rng(0)
    groups = []
    for dropout, rate in random.uniform(0, 1, (30, 2)):
        values = base.values | {"reg.dropout": str(dropout), "trainer.learning_rate": str(rate)}
        groups.append(Group(values, None, _accuracy(base, float(dropout))))
    found = importances(groups, ["reg.dropout", "trainer.learning_rate"])
    assert found["reg.dropout"] > 0.8
    assert sum(found.values()) == pytest.approx(1)
