"""The plots of one run."""

import numpy as np
from matplotlib.axes import Axes

from beans_exp.tracking import figures


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
