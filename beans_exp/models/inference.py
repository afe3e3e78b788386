"""Probabilities of a trained model for image files, read in batches so that any number of images fits into memory."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from beans_exp.data.image_files import UnreadableError, read_image
from beans_exp.data.images import resized
from beans_exp.data.pixels import PLAIN, Pixels
from beans_exp.data.walk import files_below
from beans_exp.errors import BeansExpError

if TYPE_CHECKING:
    import keras

BATCH_SIZE = 32

Report = Callable[[str], object]
"""Called with a message for each image that cannot be read."""


@dataclass(frozen=True)
class Batch:
    """Files and their images uint8 (b, S, S, 3)."""

    files: list[Path]
    images: np.ndarray


def image_files(paths: Iterable[Path]) -> list[Path]:
    """Return `paths` with each folder replaced by the sorted files below it, as training finds them.

    Raises BeansExpError for a path that does not exist and for a folder without files.
    """
    files: list[Path] = []
    for path in paths:
        if not path.exists():
            raise BeansExpError(f"{path} does not exist")
        below = list(files_below(path, Counter())) if path.is_dir() else [path]
        if not below:
            raise BeansExpError(f"{path} contains no files")
        files += below
    return files


def batches(files: Iterable[Path], size: int, report: Report, pixels: Pixels = PLAIN) -> Iterator[Batch]:
    """Yield the images of `files` at `size`, read and resized like training data, in batches of `BATCH_SIZE` files.

    `pixels` is the choice that the model was trained with. A file that cannot be read goes to `report`.
    """
    remaining = iter(files)
    while taken := list(islice(remaining, BATCH_SIZE)):
        openers = ((partial(read_image, file), number) for number, file in enumerate(taken))
        good: list[tuple[Path, np.ndarray]] = []
        for found, number in resized(openers, size, pixels):
            if isinstance(found, UnreadableError):
                report(str(found))
            else:
                good.append((taken[number], found))
        if good:
            yield Batch([file for file, _ in good], np.stack([image for _, image in good]))


def classifier(model: "keras.Model") -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from raw images uint8 (b, S, S, 3) to probabilities float64 (b, classes), traced once."""
    import tensorflow as tf

    def probabilities(images: tf.Tensor) -> tf.Tensor:
        logits = model(tf.cast(images, tf.float32), training=False)
        return tf.nn.softmax(tf.cast(logits, tf.float64))

    traced = tf.function(probabilities, input_signature=[tf.TensorSpec(model.input_shape, tf.uint8)])
    return lambda images: traced(images).numpy()


def overlay(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Return `image` uint8 (S, S, 3) under `heat` (S, S) in 0..1, as uint8 (S, S, 3): blue is cold, red is hot."""
    from matplotlib import colormaps

    colours = 255 * colormaps["turbo"](heat)[..., :3]
    return (0.55 * image + 0.45 * colours).round().astype(np.uint8)


def ranked(classes: Sequence[str], probabilities: np.ndarray) -> list[tuple[str, float]]:
    """Return `classes` with their `probabilities` (classes,), the most probable first."""
    return [(classes[index], float(probabilities[index])) for index in np.argsort(-probabilities, kind="stable")]
