"""Test images, and those that every model misses."""

import base64
import io
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from beans_exp.data import source
from beans_exp.data.pixels import from_config
from beans_exp.data.prepared import prepare
from beans_exp.errors import BeansExpError, DataError
from beans_exp.report.figures.svg import Picture, Tile
from beans_exp.report.runs.groups import Group, data_name
from beans_exp.report.runs.predictions import Tested
from beans_exp.schema import DataConfig
from beans_exp.schema.names import FILES
from beans_exp.startup.imports import silent_stderr
from beans_exp.tracking.reader import Reader

SHOWN = 12
SIDE = 200
"""Pixels of an image on the page."""


@dataclass(frozen=True)
class Misses:
    """How many runs, of groups tested on the same images, were wrong about each image: int (images,)."""

    wrong: np.ndarray
    runs: int
    labels: np.ndarray
    tested: Tested
    """One of the tests, which names classes and images."""
    predicted_as: np.ndarray
    """The class that most of the wrong runs predicted for each image, int (images,)."""

    @property
    def by_all(self) -> np.ndarray:
        """The indices of the images that every run missed."""
        return np.flatnonzero(self.wrong == self.runs)


def same_tests(groups: Sequence[Group]) -> list[Group]:
    """Return the groups that were tested on the most common test images."""
    tests: dict[object, list[Group]] = {}
    for group in groups:
        if group.tested:
            tests.setdefault((group.data, group.labels_digest), []).append(group)
    return max(tests.values(), key=lambda found: sum(len(group.tested) for group in found), default=[])


def misses(groups: Sequence[Group]) -> Misses | None:
    """Count the misses of each image over all runs of `groups`, which share their test images; None without runs."""
    tests = [tested for group in groups for tested in group.tested]
    if not tests:
        return None
    labels, classes = tests[0].labels, tests[0].classes
    named = next((tested for tested in tests if tested.images), tests[0])
    votes = np.zeros((len(labels), len(classes)), dtype=int)
    for tested in tests:
        votes[np.arange(len(labels)), tested.predicted] += 1
    votes[np.arange(len(labels)), labels] = 0
    return Misses(votes.sum(axis=1), len(tests), labels, named, votes.argmax(axis=1))


def test_images(
    group: Group,
    data_dir: str | None,
    reader: Reader | None = None,  # noqa: PT028  it is no test
) -> np.ndarray:
    """Return the test images of a group, uint8 (n, S, S, 3), as its runs read them.

    Raises DataError if they are not on this machine, or differ from those that the runs were tested on.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            config = _data_config(group, data_dir, reader, Path(folder))
            described = source(config)
        except BeansExpError as error:
            raise DataError(f"{error}, or set --data-dir") from error
    if group.data is None or not described.digest.startswith(group.data[1]):
        raise DataError(f"the images here are not those of {data_name(group)}. Set TFDS_DATA_DIR or --data-dir")
    pixels = from_config(config, described.decoder)
    with silent_stderr():  # TensorFlow is imported here where images are resized
        return prepare(described, config.image_size, None, pixels, skip=True)["test"].images


def _data_config(group: Group, data_dir: str | None, reader: Reader | None, folder: Path) -> DataConfig:
    """The data of a group, split as its first run kept it, in a file in `folder`."""
    keys = {item.name for item in fields(DataConfig)}
    logged = {key.removeprefix("data."): yaml.safe_load(value) for key, value in group.values.items() if "data." in key}
    values = {key: value for key, value in logged.items() if key in keys}
    if values["name"] in FILES or isinstance(values.get("split"), str):
        split = reader.run_artifact(group.runs[0].run_id, "split.csv") if reader else None
        values["split"] = str(folder / "split.csv") if split else None
        (folder / "split.csv").write_text(split or "")
    values["file" if values["name"] == "table" else "data_dir"] = data_dir
    return DataConfig(**values, on_error="skip")


def missed(found: Misses, images: np.ndarray | None) -> Picture:
    """Show the images that all runs miss, or else those that most miss; only their numbers without `images`."""
    chosen = found.by_all
    head = f"All {found.runs} runs miss {len(chosen)} of {len(found.labels)} test images."
    if not chosen.size:
        chosen = np.argsort(-found.wrong, kind="stable")[:SHOWN]
        chosen = chosen[found.wrong[chosen] > 0]
        head = f"No test image is missed by all {found.runs} runs; these are missed most often."
    rest = f" Shown: the first {SHOWN}." if len(chosen) > SHOWN else ""
    tiles = tuple(_missed_tile(found, int(index), images) for index in chosen[:SHOWN])
    return Picture("missed", "Hardest test images", head + rest, tiles=(tiles,))


def _missed_tile(found: Misses, index: int, images: np.ndarray | None) -> Tile:
    label, taken = (found.tested.classes[kind[index]].replace("_", " ") for kind in (found.labels, found.predicted_as))
    often = "" if found.wrong[index] == found.runs else f"; wrong in {found.wrong[index]} runs"
    text = f"{found.tested.name(index)}: {label}, mostly predicted as {taken}{often}"
    return Tile(text, f"test {text}", "" if images is None else data_uri(images[index]))


def data_uri(image: np.ndarray) -> str:
    """Return `image` uint8 (S, S, 3) as a small JPEG in a data URI."""
    stream = io.BytesIO()
    Image.fromarray(np.asarray(image, dtype=np.uint8)).resize((SIDE, SIDE)).save(stream, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"
