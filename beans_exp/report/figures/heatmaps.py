"""Where models look: Grad-CAM of right and wrong cases, a row for each image, a column for each model."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from beans_exp.models import FIRST
from beans_exp.models.inference import overlay
from beans_exp.report.figures.images import data_uri, test_images
from beans_exp.report.figures.svg import Picture, Tile
from beans_exp.report.runs.groups import FinishedRun, Group
from beans_exp.report.runs.predictions import Tested
from beans_exp.startup.imports import silent_stderr
from beans_exp.tracking.reader import Reader


@dataclass(frozen=True)
class Seen:
    """The run that represents a kind of model."""

    group: Group
    run: FinishedRun

    @property
    def tested(self) -> Tested:
        """The run's test."""
        assert self.run.tested
        return self.run.tested


def families(groups: Sequence[Group]) -> list[Seen]:
    """Return a tested run with a saved model for each kind of model, of its best configuration by validation."""
    best: dict[str, Seen] = {}
    for group in sorted(groups, key=lambda one: -np.nan_to_num(one.validation)):
        run = next((run for run in group.runs if run.has_model and run.tested), None)
        if run is not None:
            best.setdefault(group.values["model.name"], Seen(group, run))
    return [best[name] for name in sorted(best, key=_place)]


def _place(model: str) -> tuple[int, str]:
    return (FIRST.index(model) if model in FIRST else len(FIRST), model)


def cases(seen: Sequence[Seen]) -> list[int]:
    """Return up to four test images: for each combination of models that are right, the first one."""
    right = np.array([one.tested.right for one in seen])
    patterns = {tuple(column): index for index, column in reversed(list(enumerate(right.T.tolist())))}
    return [patterns[pattern] for pattern in sorted(patterns, reverse=True)][:4]


def where_models_look(reader: Reader, seen: Sequence[Seen], data_dir: str | None) -> Picture:
    """Show Grad-CAM of right and wrong cases, a row for each image, a column for each model.

    Raises DataError or StoreError if images or models are not available.
    """
    chosen = cases(seen)
    columns = [_column(reader, one, chosen, data_dir) for one in seen]
    originals = _originals(reader, seen[0], chosen, data_dir)
    caption = (
        "Grad-CAM: the evidence for the predicted class, strongest in warm colors. The images are the first test "
        "image of each combination of right and wrong models; four images prove nothing. LeNet's Dense layer keeps "
        "positions apart, so Grad-CAM's mean over positions is crude for it: an image without warm colors has no "
        "evidence by that mean."
    )
    heads = ("test image", *(f"{one.group.title}, seed {one.run.seed}" for one in seen))
    rows = tuple(zip(originals, *columns, strict=True))
    return Picture("gradcam", "Where the models look", caption, tiles=rows, heads=heads)


def _originals(reader: Reader, one: Seen, chosen: Sequence[int], data_dir: str | None) -> list[Tile]:
    images, tested = test_images(one.group, data_dir, reader), one.tested
    texts = [f"{tested.name(index)}: {tested.classes[tested.labels[index]].replace('_', ' ')}" for index in chosen]
    return [Tile(text, f"test {text}", data_uri(images[index])) for text, index in zip(texts, chosen, strict=True)]


def _column(reader: Reader, one: Seen, chosen: Sequence[int], data_dir: str | None) -> list[Tile]:
    with silent_stderr():  # TensorFlow is imported here
        from beans_exp.models.gradcam import gradcam

    images = test_images(one.group, data_dir, reader)
    model = reader.model(one.run.run_id)
    shown = ((index, np.asarray(images[index])) for index in chosen)
    predicted = one.tested.predicted
    return [_heat_tile(image, gradcam(model, image, int(predicted[index])), one, index) for index, image in shown]


def _heat_tile(image: np.ndarray, heat: np.ndarray, one: Seen, index: int) -> Tile:
    predicted = one.tested.classes[one.tested.predicted[index]].replace("_", " ")
    mark = "right" if one.tested.right[index] else "wrong"
    top, left = (int(place) for place in np.unravel_index(int(heat.argmax()), heat.shape))
    height, width = heat.shape
    down = _third(top, height, ("at the top", "in the middle", "at the bottom"))
    across = _third(left, width, ("left", "center", "right"))
    where = f"strongest {down}, {across}" if heat.any() else "no evidence anywhere"
    alt = f"{one.group.title} on image {index}: {predicted}, {mark}; {where}"
    return Tile(f"{predicted}, {mark}", alt, data_uri(overlay(image, heat)), mark)


def _third(value: float, size: int, words: tuple[str, str, str]) -> str:
    return words[min(2, int(3 * value / size))]
