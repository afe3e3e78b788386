"""The plots of one run."""

import io

import numpy as np
from matplotlib.axes import Axes

from beans_exp.tracking import figures
from tests.tracking.contract import CLASSES


def _lines(axes: Axes, word: str) -> list[float]:
    return [float(np.ravel(line.get_xdata())[0]) for line in axes.lines if word in str(line.get_label())]


def test_curves_use_the_colours_of_the_report_and_mark_fine_tuning() -> None:
    names = [f"{part}/{metric}" for part in ("train", "val") for metric in ("loss", "accuracy")]
    epochs = [dict.fromkeys(names, 0.5) | {"stage": stage} for stage in (1, 1, 1, 2, 2)]
    loss, accuracy = figures.curves(epochs, selected=5).axes
    for axes in (loss, accuracy):
        colours = {str(line.get_label()): line.get_color() for line in axes.lines}
        assert (colours["train"], colours["validation"]) == ("tab:red", "tab:blue")
        assert _lines(axes, "fine-tuning") == [3.5]
        assert _lines(axes, "selected") == [5]
    assert (loss.get_title(), accuracy.get_title()) == ("loss", "accuracy")


def test_the_confusion_matrix_counts_labels_by_prediction() -> None:
    labels, predicted = np.array([0, 0, 1, 2]), np.array([0, 1, 1, 0])
    (axes,) = figures.confusion_matrix(labels, predicted, CLASSES).axes
    counts = np.asarray(axes.images[0].get_array())
    assert counts.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]
    assert "2 of 4 right" in axes.get_title()


def test_names_of_classes_are_no_formulas() -> None:
    labels = np.array([0, 1, 2])
    matrix = figures.confusion_matrix(labels, labels, [r"$\foo$", "a$b$", "c"])
    matrix.savefig(io.BytesIO())
