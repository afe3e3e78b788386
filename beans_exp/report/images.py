"""Pictures of test images: those that every model misses, and where models look."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import yaml
from PIL import Image

from beans_exp.data import source
from beans_exp.data.prepared import prepare
from beans_exp.errors import BeansExpError, DataError
from beans_exp.models.inference import overlay
from beans_exp.report.groups import FinishedRun, Group
from beans_exp.report.predictions import Tested
from beans_exp.report.svg import Picture, Tile
from beans_exp.report.tables import data_name
from beans_exp.schema import DataConfig
from beans_exp.startup.imports import silent_stderr
from beans_exp.tracking.reader import Reader

SHOWN = 12
SIDE = 200
"""Pixels of a picture on the page."""
SYNTHETIC = ("train_images", "validation_images", "test_images", "draw_seed")


@dataclass(frozen=True)
class Misses:
    """How often the runs of several groups, tested on the same images, were wrong about each: int (images,)."""

    wrong: np.ndarray
    runs: int
    labels: np.ndarray
    classes: tuple[str, ...]
    taken_for: np.ndarray
    """The class that most of the wrong runs saw in each image, int (images,)."""

    @property
    def by_all(self) -> np.ndarray:
        """The places of the images that every run missed."""
        return np.flatnonzero(self.wrong == self.runs)


def same_tests(groups: Sequence[Group]) -> list[Group]:
    """Return the groups tested on the images that most runs were tested on."""
    tests: dict[object, list[Group]] = {}
    for group in groups:
        if group.tested:
            tests.setdefault((group.data, group.labels_digest), []).append(group)
    return max(tests.values(), key=lambda found: sum(len(group.tested) for group in found), default=[])


def misses(groups: Sequence[Group]) -> Misses | None:
    """Count who missed what, over all runs of `groups`, which share their test images; None where there is none."""
    tests = [tested for group in groups for tested in group.tested]
    if not tests:
        return None
    labels, classes = tests[0].labels, tests[0].classes
    votes = np.zeros((len(labels), len(classes)), dtype=int)
    for tested in tests:
        votes[np.arange(len(labels)), tested.predicted] += 1
    votes[np.arange(len(labels)), labels] = 0
    return Misses(votes.sum(axis=1), len(tests), labels, classes, votes.argmax(axis=1))


def test_images(group: Group, data_dir: str | None) -> np.ndarray:
    """Return the test images of a group, uint8 (n, S, S, 3).

    Raises DataError where they are not on this machine, or are not those that the runs were tested on.
    """
    values = {key.removeprefix("data."): yaml.safe_load(value) for key, value in group.values.items() if "data." in key}
    wanted = ("name", "image_size", *(SYNTHETIC if values["name"] == "synthetic" else ()))
    try:
        described = source(DataConfig(**{key: values[key] for key in wanted}, data_dir=data_dir))
    except BeansExpError as error:
        raise DataError(f"{error}, or say --data-dir") from error
    if group.data is None or not described.digest.startswith(group.data[1]):
        raise DataError(f"the images here are not those of {data_name(group)}: set TFDS_DATA_DIR, or say --data-dir")
    with silent_stderr():  # TensorFlow is imported here where images are resized
        return prepare(described, int(values["image_size"]), None)["test"].images


def missed(found: Misses, images: np.ndarray | None) -> Picture:
    """Show the images that all runs miss, or where there is none those that most do; numbers alone without `images`."""
    chosen = found.by_all
    head = f"{len(chosen)} of {len(found.labels)} test images are missed by all {found.runs} runs."
    if not chosen.size:
        chosen = np.argsort(-found.wrong, kind="stable")[:SHOWN]
        chosen = chosen[found.wrong[chosen] > 0]
        head = f"No test image is missed by all {found.runs} runs; these are missed most."
    rest = f" The first {SHOWN} are shown." if len(chosen) > SHOWN else ""
    tiles = tuple(_missed_tile(found, int(index), images) for index in chosen[:SHOWN])
    return Picture("missed", "What every model misses", head + rest, tiles=(tiles,))


def _missed_tile(found: Misses, index: int, images: np.ndarray | None) -> Tile:
    label, taken = (found.classes[kind[index]].replace("_", " ") for kind in (found.labels, found.taken_for))
    often = "" if found.wrong[index] == found.runs else f"; wrong in {found.wrong[index]} runs"
    text = f"image {index}: {label}, mostly taken for {taken}{often}"
    return Tile(text, f"test {text}", "" if images is None else data_uri(images[index]))


def data_uri(image: np.ndarray) -> str:
    """Return `image` uint8 (S, S, 3) as a small JPEG in a data URI."""
    stream = io.BytesIO()
    Image.fromarray(np.asarray(image, dtype=np.uint8)).resize((SIDE, SIDE)).save(stream, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"


# Grad-CAM


@dataclass(frozen=True)
class Seen:
    """The run that stands for a family of models."""

    group: Group
    run: FinishedRun

    @property
    def tested(self) -> Tested:
        assert self.run.tested
        return self.run.tested


def families(groups: Sequence[Group]) -> list[Seen]:
    """Return for each kind of model the tested run of its best configuration, by validation, that saved its model."""
    best: dict[str, Seen] = {}
    for group in sorted(groups, key=lambda one: -np.nan_to_num(one.validation)):
        run = next((run for run in group.runs if run.has_model and run.tested), None)
        if run is not None:
            best.setdefault(group.values["model.name"], Seen(group, run))
    return [best[name] for name in sorted(best, key=["lenet", "inception", "googlenet", "lenet5"].index)]


def cases(seen: Sequence[Seen]) -> list[int]:
    """Return test images to look at: for each way in which the models agree or not on what is right, the first one."""
    right = np.array([one.tested.right for one in seen])
    patterns = {tuple(column): index for index, column in reversed(list(enumerate(right.T.tolist())))}
    return [patterns[pattern] for pattern in sorted(patterns, reverse=True)][:4]


def where_models_look(reader: Reader, seen: Sequence[Seen], data_dir: str | None) -> Picture:
    """Show Grad-CAM of right and wrong cases, a row an image, a column a model.

    Raises DataError or StoreError where images or models cannot be had.
    """
    chosen = cases(seen)
    columns = [_column(reader, one, chosen, data_dir) for one in seen]
    originals = _originals(seen[0], chosen, data_dir)
    caption = (
        "Grad-CAM: what speaks for the predicted class, warm colours most. Of every way in which the models agree or "
        "disagree the first test image is taken, so that right and wrong cases are seen; four images prove nothing. "
        "LeNet keeps places up to its Dense layer, for which Grad-CAM's mean over places is crude: an image without "
        "warm places is one where by that mean nothing speaks for the class."
    )
    heads = ("test image", *(f"{one.group.title}, seed {one.run.seed}" for one in seen))
    rows = tuple(zip(originals, *columns, strict=True))
    return Picture("gradcam", "Where the models look", caption, tiles=rows, heads=heads)


def _originals(one: Seen, chosen: Sequence[int], data_dir: str | None) -> list[Tile]:
    images, tested = test_images(one.group, data_dir), one.tested
    texts = [f"image {index}: {tested.classes[tested.labels[index]].replace('_', ' ')}" for index in chosen]
    return [Tile(text, f"test {text}", data_uri(images[index])) for text, index in zip(texts, chosen, strict=True)]


def _column(reader: Reader, one: Seen, chosen: Sequence[int], data_dir: str | None) -> list[Tile]:
    with silent_stderr():  # TensorFlow is imported here
        from beans_exp.models.gradcam import gradcam

    images = test_images(one.group, data_dir)
    model = reader.model(one.run.run_id)
    shown = ((index, np.asarray(images[index])) for index in chosen)
    said = one.tested.predicted
    return [_heat_tile(image, gradcam(model, image, int(said[index])), one, index) for index, image in shown]


def _heat_tile(image: np.ndarray, heat: np.ndarray, one: Seen, index: int) -> Tile:
    predicted = one.tested.classes[one.tested.predicted[index]].replace("_", " ")
    mark = "right" if one.tested.right[index] else "wrong"
    top, left = (int(place) for place in np.unravel_index(int(heat.argmax()), heat.shape))
    height, width = heat.shape
    down = _third(top, height, ("at the top", "in the middle", "at the bottom"))
    across = _third(left, width, ("left", "centre", "right"))
    where = f"strongest {down}, {across}" if heat.any() else "no place speaks for it"
    alt = f"{one.group.title} on image {index}: {predicted}, {mark}; {where}"
    return Tile(f"{predicted}, {mark}", alt, data_uri(overlay(image, heat)), mark)


def _third(value: float, size: int, words: tuple[str, str, str]) -> str:
    return words[min(2, int(3 * value / size))]
