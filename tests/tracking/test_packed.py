"""A run as it travels: its JSON, its tags, and the pictures that can be drawn from it."""

import math
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest
from PIL import Image

from beans_exp.tracking import tags
from beans_exp.tracking.packed import STAYING, TRAVELLING, PackedRun, travels
from beans_exp.tracking.packed_file import is_portable_path, with_run_ids
from beans_exp.tracking.redrawn import EPOCH_METRICS, can_be_drawn, draw

ID = "0123456789abcdef" * 2
PREDICTIONS = "index,label,predicted,p_a,p_b\n0,a,a,0.9,0.1\n1,b,a,0.6,0.4\n"


def _run(epochs: int = 3) -> PackedRun:
    histories = {name: [(step, step, 1 / step) for step in range(1, epochs + 1)] for name in EPOCH_METRICS}
    return PackedRun(ID, "name", "FINISHED", 1, 2, {"seed": "0"}, {tags.STATUS: "finished"}, dict(histories))


def test_every_tag_of_the_project_travels_or_stays() -> None:
    named = {
        value
        for name, value in vars(tags).items()
        if name.isupper()
        and isinstance(value, str)
        and value.startswith(("beans.", "mlflow."))
        and value != tags.VERSION
    }
    assert named == {tag for tag in TRAVELLING | STAYING if tag != "mlflow.note.content"}
    assert not TRAVELLING & STAYING
    assert travels("beans.version.keras") and not travels("mlflow.user") and not travels("team")


def test_a_run_is_read_as_it_was_written() -> None:
    values = [math.nan, math.inf, -math.inf, 0.1, 1e-300]
    odd = replace(_run(), metrics={"x": [(-1, 5, value) for value in values]}, name="naïve", drawn=["curves.png"])
    assert str(PackedRun.loads(odd.dumps())) == str(odd)
    assert odd.dumps() == replace(odd, params=dict(reversed(odd.params.items()))).dumps()


@pytest.mark.parametrize(
    ("path", "portable"),
    [
        ("a/b.txt", True),
        ("mit leer.txt", True),
        ("ü.txt", True),
        ("", False),
        ("/a", False),
        ("a//b", False),
        ("a/../b", False),
        ("a/", False),
        ("a\\b", False),
        ("C:a", False),
        ("a\nb", False),
        ("x" * 201, False),
        (".artifact.uploading.x", False),
        ("\ud800", False),
    ],
)
def test_paths_that_some_system_cannot_hold_are_not_portable(path: str, portable: bool) -> None:
    assert is_portable_path(path) == portable


def test_run_ids_in_tables_are_replaced() -> None:
    other = "f" * 32
    assert (
        with_run_ids("jobs.csv", f"m,{ID},finished\nn,{other},failed\n", {ID: "new"}) == "m,new,finished\nn,,failed\n"
    )
    assert with_run_ids("trials.csv", f"{ID},{other}", {ID: "new"}) == f"new,{other}"


@pytest.mark.parametrize(
    ("run", "predictions", "pictures"),
    [
        (_run(), PREDICTIONS, ["curves.png", "confusion_matrix.png"]),
        (_run(), None, ["curves.png"]),
        (_run(0), PREDICTIONS, ["confusion_matrix.png"]),
        (_run(), "index,label\n0,a\n", ["curves.png"]),
        (replace(_run(), metrics=_run().metrics | {"stage": [(1, 1, 1.0)]}), PREDICTIONS, ["confusion_matrix.png"]),
        (_run(), PREDICTIONS.replace("p_b", ",".join(f"p_{n}" for n in range(101))), ["curves.png"]),
    ],
    ids=["both", "no test", "no epochs", "damaged", "a stage is missing", "many classes"],
)
def test_pictures_are_drawn_from_metrics_and_predictions(
    run: PackedRun, predictions: str | None, pictures: list[str], tmp_path: Path
) -> None:
    assert can_be_drawn(run, predictions) == pictures
    (tmp_path / "drawn").mkdir()
    draw(replace(run, drawn=pictures), predictions, tmp_path / "drawn")
    assert {file.name for file in (tmp_path / "drawn").iterdir()} == set(pictures)
    for name in pictures:
        with Image.open(tmp_path / "drawn" / name) as picture:
            assert min(picture.size) >= 400


def test_a_picture_that_cannot_be_drawn_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("beans_exp.tracking.confusion.name_axes", Mock(side_effect=ValueError("no such font")))
    assert can_be_drawn(_run(), PREDICTIONS) == ["curves.png", "confusion_matrix.png"]
    draw(replace(_run(), drawn=["confusion_matrix.png"]), PREDICTIONS, tmp_path)
    assert not (tmp_path / "confusion_matrix.png").exists()
    assert "confusion_matrix.png of run 01234567 cannot be drawn" in caplog.text


def test_a_class_that_looks_like_a_formula_is_drawn_as_it_is(tmp_path: Path) -> None:
    odd = PREDICTIONS.replace("a,a", "$x^^y$,$x^^y$").replace("b,a", "b,$x^^y$").replace("p_a", "p_$x^^y$")
    draw(replace(_run(), drawn=["confusion_matrix.png"]), odd, tmp_path)
    assert (tmp_path / "confusion_matrix.png").exists()
