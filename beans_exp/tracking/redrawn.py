"""The pictures of a run that are not packed, because they can be drawn from its metrics and its predictions."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from beans_exp.errors import first_line
from beans_exp.tracking.packed import PackedRun
from beans_exp.tracking.reader import Predictions, parse_predictions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)

CURVES, MATRIX = "curves.png", "confusion_matrix.png"
EPOCH_METRICS = ("train/loss", "val/loss", "train/accuracy", "val/accuracy", "stage")
"""The metrics that the curves show."""
Value = TypeVar("Value")
MAX_EPOCHS, MAX_CLASSES, MAX_PREDICTIONS = 100_000, 100, 16 << 20
"""Beyond these a picture is packed as it is."""


def can_be_drawn(run: PackedRun, predictions: str | None) -> list[str]:
    """Return the names of the pictures that `run` and the text of its `predictions.csv` suffice for."""
    found = {CURVES: _epochs(run), MATRIX: _parsed(predictions)}
    return [name for name, content in found.items() if content is not None]


def draw(run: PackedRun, predictions: str | None, folder: Path) -> None:
    """Draw the pictures in `run.drawn` into `folder`, as the tracker drew them."""
    from beans_exp.tracking import figures

    makers: dict[str, Callable[[], Figure]] = {
        CURVES: lambda: figures.curves(_require(_epochs(run)), _selected(run)),
        MATRIX: lambda: _matrix(_require(_parsed(predictions))),
    }
    for name in run.drawn:
        try:
            _write_png(makers[name](), folder / name)
        except Exception as error:  # whatever Matplotlib raises, say for a class whose name is no formula
            log.warning("%s of run %s cannot be drawn: %s", name, run.id[:8], first_line(error))


def _matrix(found: Predictions) -> "Figure":
    from beans_exp.tracking.confusion import confusion_matrix

    return confusion_matrix(found.labels, found.predicted, found.classes)


def _write_png(figure: "Figure", file: Path) -> None:
    """Write `figure`, drawn once: `savefig` draws a figure with a layout twice."""
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB").save(file, compress_level=3)


def _epochs(run: PackedRun) -> list[dict[str, float]] | None:
    """The metrics of each epoch; None unless each of `EPOCH_METRICS` has one value for each of the steps 1, 2, ..."""
    series = [{step: value for step, _, value in run.metrics.get(name, [])} for name in EPOCH_METRICS]
    steps = range(1, len(series[0]) + 1)
    if not 0 < len(steps) <= MAX_EPOCHS or any(set(values) != set(steps) for values in series):
        return None
    return [dict(zip(EPOCH_METRICS, (values[step] for values in series), strict=True)) for step in steps]


def _selected(run: PackedRun) -> int:
    """The epoch whose weights were tested, by the rule of `trainer.select`."""
    values = [epoch["val/accuracy"] for epoch in _require(_epochs(run))]
    return 1 + values.index(max(values)) if run.params.get("trainer.select") == "best" else len(values)


def _parsed(predictions: str | None) -> Predictions | None:
    if not predictions or len(predictions) > MAX_PREDICTIONS:
        return None
    try:
        found = parse_predictions(predictions)
    except ValueError:
        return None
    return found if len(found.classes) <= MAX_CLASSES else None


def _require(value: Value | None) -> Value:
    assert value is not None
    return value
