"""Classify image files with the model of a run.

    python -m beans_exp.predict RUN_ID leaf.jpg photos/             # a table
    python -m beans_exp.predict RUN_ID photos/ --json | jq .class   # one JSON object per line
    python -m beans_exp.predict models:/beans_exp@champion leaf.jpg --gradcam heat

The exit status is 0 only if every file was read; files that are damaged or not images are listed on standard error.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from beans_exp.errors import BeansExpError
from beans_exp.files import user_path
from beans_exp.models.inference import Batch, batches, classifier, image_files, overlay, ranked
from beans_exp.schema import TrackingConfig
from beans_exp.startup.console import add_config_dir, add_tracking_uri, command_parser, errors_as_messages
from beans_exp.startup.imports import no_collections, quiet_libraries, silent_stderr
from beans_exp.terminal import open_console
from beans_exp.tracking.store import connect, store_uri

if TYPE_CHECKING:
    import keras
    import numpy as np

    from beans_exp.tracking.registry import FetchedModel

ALTERNATIVES = 2
"""How many classes the table shows after the predicted one; JSON has all."""


@dataclass(frozen=True)
class Prediction:
    """The prediction for one file."""

    file: Path
    ranked: list[tuple[str, float]]
    """Classes with their probabilities, most probable first."""
    picture: Path | None
    """A PNG file of the resized image under its Grad-CAM heat map."""


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    made = command_parser("predict", __doc__)
    model = "a run's id or its beginning, models:/NAME@ALIAS,\nmodels:/NAME/VERSION, models:/m-ID or runs:/RUN_ID/model"
    made.add_argument("model", metavar="RUN_ID_OR_MODEL_URI", help=model)
    made.add_argument("paths", metavar="IMAGE_OR_FOLDER", nargs="+", type=Path, help="image file, or a folder of them")
    made.add_argument("--json", action="store_true", help="print JSON Lines: one object per file, unbuffered")
    made.add_argument(
        "--gradcam", metavar="FOLDER", type=user_path, help="write a Grad-CAM heat map of each image, as PNG"
    )
    add_config_dir(made)
    add_tracking_uri(made)
    return made


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line `words`; return the exit status."""
    arguments = parser().parse_intermixed_args(words)
    quiet_libraries()
    try:
        with errors_as_messages():
            return _run(arguments)
    except BrokenPipeError:  # such as `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(arguments: argparse.Namespace) -> int:
    files = image_files(arguments.paths)
    _make_folder(arguments.gradcam)
    with _loaded(arguments.model, store_uri(TrackingConfig(uri=arguments.tracking_uri))) as (model, found):
        return 1 if _show(model, found, files, arguments) else 0


@contextmanager
def _loaded(name: str, store: str) -> "Iterator[tuple[keras.Model, FetchedModel]]":
    """The model named `name`, and what its metadata say."""
    with ExitStack() as open_files:
        with no_collections():
            from beans_exp.tracking.registry import fetched, find_model, load

            found = open_files.enter_context(fetched(find_model(connect(store), name)))
            with silent_stderr():  # TensorFlow is imported here, once the model is found
                model = load(found)
        yield model, found


def _show(
    model: "keras.Model", found: "FetchedModel", files: Sequence[Path], arguments: argparse.Namespace
) -> list[str]:
    """Print the predictions for `files`; return the errors of those that cannot be read."""
    unread: list[str] = []

    def report(message: str) -> None:
        unread.append(message)
        bar.console.print(f"error: {message}", soft_wrap=True)

    with _bar(arguments.json) as bar:
        images = batches(bar.track(files, description="images"), model.input_shape[1], report, found.pixels)
        predictions = predict(model, found.classes, images, arguments.gradcam)
        if arguments.json:
            _print_json(predictions)
        kept = list(predictions)
    if kept:
        _print_table(kept)
    return unread


def predict(
    model: "keras.Model", classes: Sequence[str], images: Iterable[Batch], pictures: Path | None = None
) -> Iterator[Prediction]:
    """Yield the prediction for each image of the batches, in order.

    `pictures` is the folder for Grad-CAM pictures, `0001-<file>.png` and so on.
    """
    probabilities = classifier(model)
    number = 0
    for batch in images:
        for file, image, row in zip(batch.files, batch.images, probabilities(batch.images), strict=True):
            number += 1
            picture = pictures / f"{number:04d}-{file.stem}.png" if pictures else None
            if picture:
                _draw(model, image, int(row.argmax()), picture)
            yield Prediction(file, ranked(classes, row), picture)


def _draw(model: "keras.Model", image: "np.ndarray", label: int, file: Path) -> None:
    from PIL import Image

    from beans_exp.models.gradcam import gradcam

    Image.fromarray(overlay(image, gradcam(model, image, label))).save(file)


def _make_folder(folder: Path | None) -> None:
    try:
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BeansExpError(f"--gradcam: the folder {folder} cannot be created ({error})") from error


def _bar(json_lines: bool) -> Progress:
    """A progress bar on standard error that disappears at the end; hidden where it would mix with the output."""
    hidden = not sys.stderr.isatty() or (json_lines and sys.stdout.isatty())
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=open_console(stderr=True), transient=True, disable=hidden, redirect_stdout=False)


def _print_json(predictions: Iterable[Prediction]) -> None:
    """Print one object per file: `file`, `class`, `probability`, `probabilities` by class, `gradcam` (file or null)."""
    for prediction in predictions:
        name, probability = prediction.ranked[0]
        shown = {
            "file": str(prediction.file),
            "class": name,
            "probability": probability,
            "probabilities": dict(prediction.ranked),
            "gradcam": str(prediction.picture) if prediction.picture else None,
        }
        print(json.dumps(shown), flush=True)


def _print_table(predictions: Sequence[Prediction]) -> None:
    table = Table("image", "class", "probability", "next", box=SIMPLE_HEAD)
    table.columns[0].overflow = "fold"
    table.columns[2].justify = "right"
    for prediction in predictions:
        (name, probability), *others = prediction.ranked
        following = ", ".join(f"{other} {value:.3f}" for other, value in others[:ALTERNATIVES])
        table.add_row(_printable(prediction.file), name, f"{probability:.3f}", following)
    open_console().print(table)


def _printable(file: Path) -> str:
    """The name of `file`; bytes that are not UTF-8 are shown escaped."""
    return str(file).encode(errors="backslashreplace").decode()


if __name__ == "__main__":
    sys.exit(main())
