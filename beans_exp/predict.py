"""What a run's model says of image files.

    python -m beans_exp.predict RUN_ID leaf.jpg photos/             # a table
    python -m beans_exp.predict RUN_ID photos/ --json | jq .class   # a JSON object a line
    python -m beans_exp.predict models:/beans_exp@champion leaf.jpg --gradcam heat

The exit status is 0 only if every file was read; one that is not an image, or is damaged, is named on standard error.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from beans_exp.errors import BeansExpError
from beans_exp.files import user_path
from beans_exp.models.inference import Batch, batches, classifier, image_files, overlay, ranked
from beans_exp.schema import TrackingConfig
from beans_exp.startup.console import add_tracking_uri, errors_as_messages
from beans_exp.startup.imports import no_collections, quiet_libraries, silent_stderr
from beans_exp.tracking.store import connect, store_uri

if TYPE_CHECKING:
    import keras
    import numpy as np

PLAIN: dict[str, Any] = {"highlight": False, "markup": False, "emoji": False}
"""A file may be named like rich's markup."""
WIDTH = 160
"""Of a table that does not go to a terminal."""
ALTERNATIVES = 2
"""The classes that the table shows beside the predicted one; JSON has all."""


@dataclass(frozen=True)
class Prediction:
    """What a model says of one file."""

    file: Path
    ranked: list[tuple[str, float]]
    """Classes with their probabilities, the most probable first."""
    picture: Path | None
    """Grad-CAM's heat on the image as the model saw it, a PNG file."""


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    first, _, rest = str(__doc__).partition("\n\n")
    made = argparse.ArgumentParser(
        "python -m beans_exp.predict", description=first, epilog=rest, formatter_class=argparse.RawTextHelpFormatter
    )
    model = "a run's id or its beginning, models:/NAME@ALIAS,\nmodels:/NAME/VERSION, models:/m-ID or runs:/RUN_ID/model"
    made.add_argument("model", metavar="RUN_ID_OR_MODEL_URI", help=model)
    made.add_argument("paths", metavar="IMAGE_OR_FOLDER", nargs="+", type=Path, help="of a folder every file below it")
    made.add_argument("--json", action="store_true", help="print JSON Lines: an object a file, as soon as it is known")
    made.add_argument(
        "--gradcam", metavar="FOLDER", type=user_path, help="write a PNG an image: where the model looked"
    )
    add_tracking_uri(made)
    return made


def main(words: Sequence[str] | None = None) -> int:
    """Do what the command line says; return the exit status."""
    arguments = parser().parse_intermixed_args(words)
    quiet_libraries()
    try:
        with errors_as_messages():
            return _run(arguments)
    except BrokenPipeError:  # `| head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(arguments: argparse.Namespace) -> int:
    files = image_files(arguments.paths)
    _make_folder(arguments.gradcam)
    with _loaded(arguments.model, store_uri(TrackingConfig(uri=arguments.tracking_uri))) as (model, classes):
        return 1 if _show(model, classes, files, arguments) else 0


@contextmanager
def _loaded(name: str, store: str) -> "Iterator[tuple[keras.Model, tuple[str, ...]]]":
    """The model that `name` means, and its classes."""
    with ExitStack() as open_files:
        with no_collections():
            from beans_exp.tracking.registry import fetched, find_model, load

            found = open_files.enter_context(fetched(find_model(connect(store), name)))
            with silent_stderr():  # TensorFlow is imported here, once everything is known to be there
                model = load(found)
        yield model, found.classes


def _show(
    model: "keras.Model", classes: Sequence[str], files: Sequence[Path], arguments: argparse.Namespace
) -> list[str]:
    """Print what `model` says of `files`; return what is wrong with those that cannot be read."""
    unread: list[str] = []

    def report(message: str) -> None:
        unread.append(message)
        bar.console.print(f"error: {message}", soft_wrap=True)

    with _bar(arguments.json) as bar:
        images = batches(bar.track(files, description="images"), model.input_shape[1], report)
        predictions = predict(model, classes, images, arguments.gradcam)
        if arguments.json:
            _print_json(predictions)
        kept = list(predictions)
    if kept:
        _print_table(kept)
    return unread


def predict(
    model: "keras.Model", classes: Sequence[str], images: Iterable[Batch], pictures: Path | None = None
) -> Iterator[Prediction]:
    """Yield what `model` says of each image of the batches, in their order.

    `pictures` is the folder for Grad-CAM's pictures, `0001-<file>.png` and on.
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
        raise BeansExpError(f"--gradcam: the folder {folder} cannot be made ({error})") from error


def _bar(json_lines: bool) -> Progress:
    """A bar on standard error, which leaves nothing behind; none where it would mix with what is printed."""
    hidden = not sys.stderr.isatty() or (json_lines and sys.stdout.isatty())
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True, **PLAIN)
    return Progress(*columns, console=console, transient=True, disable=hidden, redirect_stdout=False)


def _print_json(predictions: Iterable[Prediction]) -> None:
    """Print an object a file: `file`, `class`, `probability`, `probabilities` by class, `gradcam` (a file or null)."""
    for prediction in predictions:
        name, probability = prediction.ranked[0]
        said = {
            "file": str(prediction.file),
            "class": name,
            "probability": probability,
            "probabilities": dict(prediction.ranked),
            "gradcam": str(prediction.picture) if prediction.picture else None,
        }
        print(json.dumps(said), flush=True)


def _print_table(predictions: Sequence[Prediction]) -> None:
    table = Table("image", "class", "probability", "then", box=SIMPLE_HEAD)
    table.columns[0].overflow = "fold"
    table.columns[2].justify = "right"
    for prediction in predictions:
        (name, probability), *others = prediction.ranked
        then = ", ".join(f"{other} {value:.3f}" for other, value in others[:ALTERNATIVES])
        table.add_row(_printable(prediction.file), name, f"{probability:.3f}", then)
    Console(width=None if sys.stdout.isatty() else WIDTH, **PLAIN).print(table)


def _printable(file: Path) -> str:
    """The name of `file`, bytes that are no text written as such."""
    return str(file).encode(errors="backslashreplace").decode()


if __name__ == "__main__":
    sys.exit(main())
