"""Studies of the user's own: read from a folder, shown like the shipped one, and refused with one line if broken."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from beans_exp.errors import ConfigError
from beans_exp.report.__main__ import main
from beans_exp.report.deciding import decides
from beans_exp.report.runs.collect import collect
from beans_exp.report.runs.groups import Group
from beans_exp.report.studies.files import load_studies
from beans_exp.report.studies.study import Family
from beans_exp.report.titles import assign_rows
from beans_exp.schema import CONF, Config, ModelConfig, TrainerConfig, checked_options
from beans_exp.startup.help import describe_options
from beans_exp.tracking.params import flat_params
from beans_exp.tracking.reader import open_reader
from beans_exp.tracking.store import open_store
from tests.report.simulated import Point, Writer

pytestmark = pytest.mark.xdist_group("report")

NETS = """\
# Three networks from scratch
title: Three networks from scratch
rows: {plain: Plain net, net5: The net of 1998, cells: Net of cells}
epochs: nets.csv
tables:
  - key: nets
    title: Networks
    question: Which network learns most?
    rows: [plain, net5, cells]
    baseline: plain
contrasts:
  - key: families
    title: Old against new
    families:
      - model.name: [lenet, lenet5]
      - model.name: googlenet
        model.pretrained: false
trends:
  - {key: sizes, title: Accuracy against kernel size, value: kernel.size, label: kernel size, rows: [plain, cells]}
"""
ROW = """\
# @package _global_
# a network from scratch
defaults:
  - override /model: {model}
trainer:
  learning_rate: 2e-3
study:
  name: {name}
  report: nets
  reported:
    test/accuracy: {accuracy}
    train/accuracy: 0.95
    val/accuracy: 0.75
"""
EPOCHS = "row,epoch,train_accuracy,val_accuracy\nplain,19,0.9,0.7\nplain,20,0.95,0.75\n"
MODELS = {"plain": "lenet", "net5": "lenet5", "cells": "googlenet"}
ACCURACIES = {"plain": 0.711, "net5": 0.622, "cells": 0.833}


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder with the study `nets`."""
    folder = tmp_path / "own"
    for name in ("report", "study"):
        (folder / name).mkdir(parents=True)
    (folder / "report" / "nets.yaml").write_text(NETS)
    (folder / "study" / "nets.csv").write_text(EPOCHS)
    for name, model in MODELS.items():
        text = ROW.format(name=name, model=model, accuracy=ACCURACIES[name])
        (folder / "study" / f"{name}.yaml").write_text(text)
    return folder


@pytest.fixture(scope="module")
def nets(store: str) -> str:
    """The experiment with runs of the three networks."""
    writer = Writer(store, open_store(store, "nets"))
    qualities = {"lenet": 0.5, "lenet5": 0.5, "googlenet": 0.97}
    for seed in range(3):
        for model, quality in qualities.items():
            config = Config(model=ModelConfig(model), trainer=TrainerConfig(learning_rate=2e-3), seed=seed)
            writer.write(Point(config, quality, 10))
    return "nets"


def test_a_second_study_is_reported_with_its_titles_figures_and_verdicts(
    own: Path, store: str, nets: str, capsys: pytest.CaptureFixture[str]
) -> None:
    main([nets, "--tracking-uri", store, "--no-images", "--config-dir", str(own)])
    printed = capsys.readouterr().out
    assert "Net of cells against Plain net: better" in printed
    assert "The net of 1998 against Plain net: not distinguishable" in printed
    page, text = Path("report/report.html").read_text(), Path("report/report.md").read_text()
    for words in ("Three networks from scratch", "Networks", "Which network learns most?", "Old against new"):
        assert words in page
        assert words in text
    assert "Accuracy against kernel size" not in page, "all have the same size"
    assert "Pale dots: the epochs that the study printed." in page
    lines = [line for line in text.splitlines() if line.startswith("| Plain net")]
    assert "| 71.1 % |" in lines[0]
    assert "| +20.0 |" in lines[1]
    assert "Regularization" not in page


def test_without_the_folder_the_runs_are_other_configurations(store: str, nets: str) -> None:
    reader = open_reader(store, nets)
    groups = collect(reader, reader.records()).groups
    assign_rows(groups, load_studies())
    assert sorted((group.title, group.row) for group in groups) == [
        ("LeNet", "lenet"),
        ("googlenet", None),
        ("lenet5", None),
    ]


def test_rows_have_the_values_that_hydra_composes(own: Path, composed: Callable[..., Config]) -> None:
    (own / "reg").mkdir()
    (own / "reg" / "strong.yaml").write_text("# strong\nname: strong\nl2: 0.5\n")
    file = own / "study" / "plain.yaml"
    file.write_text(file.read_text().replace("model: lenet\n", "model: lenet\n  - override /reg: strong\n"))
    study = load_studies(own)[0]
    found = composed(f"hydra.searchpath=[file://{own}]", "study=plain")
    assert study.rows["plain"].values == {key: value for key, value in flat_params(found).items() if decides(key)}
    assert study.rows["plain"].values["reg.l2"] == "0.5"


def test_the_own_study_names_configurations_that_both_studies_have(own: Path) -> None:
    studies = load_studies(own)
    assert [study.name for study in studies] == ["nets", "beans_report"]
    group = Group(studies[0].rows["plain"].values, None)
    assign_rows([group], studies)
    assert (group.title, group.row, group.notes) == ("Plain net", "plain", [])
    assert [(match.row.title, match.notes) for match in group.matches] == [
        ("Plain net", []),
        ("LeNet", ["trainer.learning_rate=0.002"]),
    ]


def test_rows_can_differ_in_the_trainer_alone(own: Path) -> None:
    file = own / "study" / "net5.yaml"
    file.write_text(file.read_text().replace("lenet5", "lenet").replace("2e-3", "4e-3"))
    study = load_studies(own)[0]
    groups = [Group(study.rows[name].values, None) for name in ("plain", "net5")]
    groups.append(Group(groups[0].values | {"trainer.learning_rate": "0.1"}, None))
    assign_rows(groups, [study])
    assert [group.row for group in groups] == ["plain", "net5", None]


def test_a_row_can_be_on_a_folder_of_images(own: Path) -> None:
    file = own / "study" / "plain.yaml"
    file.write_text(file.read_text().replace("model: lenet\n", "model: lenet\n  - override /data: folder\n"))
    assert load_studies(own)[0].rows["plain"].values["data.name"] == "folder"


def test_a_family_accepts_one_of_several_values() -> None:
    values = {key: value for key, value in flat_params(Config()).items() if decides(key)}
    assert Family({"model.name": ["lenet5", "lenet"], "reg.l2": [0], "model.pretrained": [False]}).has(values)
    assert not Family({"model.name": ["lenet5"]}).has(values)
    assert not Family({"model.pretrained": [True]}).has(values)


BROKEN = [
    ("report/nets.yaml", "title: Three", "titel: Three", ["titel: is not a known key. Did you mean title?"]),
    ("report/nets.yaml", "title: Three networks from scratch\n", "", ["title: is missing. Add it"]),
    ("report/nets.yaml", "title: Three", "title: [Three", ["line ", "Correct the YAML there"]),
    (
        "report/nets.yaml",
        "baseline: plain",
        "baseline: lenet",
        ["tables[0].baseline=lenet: must be one of plain"],
    ),
    ("report/nets.yaml", "[plain, net5, cells]", "[plain, vgg]", ["tables[0].rows[1]=vgg: must be one of", "study/"]),
    ("report/nets.yaml", "[plain, net5, cells]", "plain", ["tables[0].rows=plain: must be a list"]),
    ("report/nets.yaml", "[plain, net5, cells]", "[plain, net5]", ["cells.yaml", "no table there has the row. Add it"]),
    ("report/nets.yaml", "plain: Plain net,", "plane: Plain net,", ["rows.plane: is not a known key. Did you mean pl"]),
    ("report/nets.yaml", "key: nets", "key: Nets!", ["tables[0].key=Nets!: must be made of a to z"]),
    ("report/nets.yaml", "key: nets", "key: others", ["key=others: must be unique", "Rename it"]),
    ("report/nets.yaml", "key: nets", "key: transfer", ["key=transfer: must be unique", "beans_report.yaml has it"]),
    ("report/nets.yaml", "title: Networks", "title: 3", ["tables[0].title=3: must be text"]),
    ("report/nets.yaml", "  - model.name: g", "  - model.nam: g", ["families[1].model.nam: is not a known key"]),
    ("report/nets.yaml", "      - model.name: [lenet, lenet5]\n", "", ["families: must be two families"]),
    ("report/nets.yaml", "kernel.size", "kernel.siz", ["trends[0].value=kernel.siz: must be one of"]),
    ("report/nets.yaml", "kernel.size", "model.name", ["plain: model.name=lenet: must be a number"]),
    ("report/nets.yaml", "nets.csv", "net.csv", ["epochs=net.csv: must be a CSV file in study/. Add"]),
    ("study/nets.csv", "plain,19,0.9", "plain,19,x", ["line 2: must have numbers in the columns epoch"]),
    ("study/nets.csv", "plain,19", "vgg,19", ["line 2: row=vgg: must be one of cells"]),
    ("study/plain.yaml", "report: nets", "report: net", ["study.report=net: must be one of beans_report, nets"]),
    ("study/plain.yaml", "  report: nets\n", "", ["study.report: is missing. Add it"]),
    ("study/plain.yaml", "/model: lenet", "/model: vgg", ["/model=vgg: must be one of convnexttiny, densenet121"]),
    (
        "study/plain.yaml",
        "override /model",
        "override /modle",
        ["defaults[0]=override /modle: must be override"],
    ),
    ("study/plain.yaml", "2e-3", "fast", ["learning_rate", "fast", "Correct the row"]),
    ("study/plain.yaml", "2e-3", "-1.0", ["trainer.learning_rate=-1.0: must be above 0. Correct the row"]),
    ("study/plain.yaml", "learning_rate", "rate", ["rate", "Correct the row"]),
    ("study/plain.yaml", "test/accuracy", "test/acc", ["study.reported.test/acc=test/acc: must be one of"]),
    ("study/plain.yaml", "0.711", "much", ["study.reported.test/accuracy=much: must be a number"]),
    ("study/net5.yaml", "/model: lenet5", "/model: lenet", ["its values must be different from plain"]),
]


@pytest.mark.parametrize(("name", "before", "after", "words"), BROKEN, ids=lambda value: str(value)[:40])
def test_a_broken_file_is_one_line_with_file_key_and_way_out(
    name: str, before: str, after: str, words: list[str], own: Path
) -> None:
    file = own / name
    assert before in file.read_text()
    file.write_text(file.read_text().replace(before, after, 1))
    with pytest.raises(ConfigError) as error:
        load_studies(own)
    message = str(error.value)
    assert message.startswith(str(own))
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize("name", ["report/beans_report.yaml", "study/lenet.yaml"])
def test_a_file_with_the_name_of_a_shipped_one_is_refused(name: str, own: Path) -> None:
    (own / name).write_text((CONF / name).read_text())
    with pytest.raises(ConfigError, match=f"{name}: must have a name of its own: .* exists. Rename it"):
        load_studies(own)


def test_an_option_of_a_row_may_not_have_defaults_of_its_own(own: Path) -> None:
    (own / "reg").mkdir()
    (own / "reg" / "mine.yaml").write_text("defaults: [l2]\nname: mine\n")
    file = own / "study" / "plain.yaml"
    file.write_text(file.read_text().replace("model: lenet\n", "model: lenet\n  - override /reg: mine\n"))
    with pytest.raises(ConfigError, match=r"mine.yaml: defaults: must not be .* Write its values in plain.yaml"):
        load_studies(own)


def test_the_shipped_study_has_a_title_for_each_of_its_rows() -> None:
    content = yaml.safe_load((CONF / "report" / "beans_report.yaml").read_text())
    assert set(content["rows"]) == {file.stem for file in (CONF / "study").glob("*.yaml")}


def test_the_files_of_the_report_are_not_options_of_a_run() -> None:
    with pytest.raises(ConfigError, match="report=beans_report: must be left out"):
        checked_options(["report=beans_report"])
    with pytest.raises(ConfigError, match="must be left out"):
        checked_options(["+report=beans_report"])
    listed = describe_options([{"schema": "file", "path": str(CONF)}])
    assert "beans_report" not in listed
