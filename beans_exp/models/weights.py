"""Pre-trained weights of a base: checked and named without TensorFlow."""

import hashlib
import os
from functools import lru_cache
from pathlib import Path

from beans_exp.errors import DataError
from beans_exp.files import user_path
from beans_exp.network import why_unreachable
from beans_exp.schema import ModelConfig

HOST = "storage.googleapis.com"
"""The host that Keras downloads the ImageNet weights from."""
HINT = (
    "Set model.weights (BEANS_EXP_INCEPTION_WEIGHTS for model=inception) to a weights file. Without one, set "
    "model.weights=null and leave out finetune: all layers are trained from random weights in one stage, slower and "
    "without transfer learning"
)


def weights_name(model: ModelConfig) -> str | None:
    """Return the name of the pre-trained weights: `imagenet`, the stem of a file, or None for random weights."""
    if model.weights in (None, "imagenet"):
        return model.weights
    return Path(str(model.weights)).name.removesuffix(".h5").removesuffix(".weights")


def weights_digest(model: ModelConfig) -> str | None:
    """Return the identity of the weights: `imagenet`, the hash of a file's content, or None for random weights.

    Raises DataError, within seconds, for a missing file and for ImageNet weights that cannot be downloaded.
    """
    if model.weights is None:
        return None
    if model.weights == "imagenet":
        _require_imagenet(model.facts.get("weights_file"))
        return "imagenet"
    file = user_path(model.weights)
    try:
        facts = file.stat()
        return _content_digest(file, facts.st_mtime_ns, facts.st_size)
    except OSError as error:
        raise DataError(f"model.weights: {file} cannot be read ({error.strerror}). {HINT}") from error


@lru_cache
def _content_digest(file: Path, changed_ns: int, size: int) -> str:
    """The hash of the content of `file`, cached until it changes, because a sweep needs it for each of its points."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _require_imagenet(name: str | None) -> None:
    """Raise DataError unless Keras has the file `name`, or can download it; None is not its file."""
    file = user_path(os.environ.get("KERAS_HOME") or "~/.keras") / "models" / str(name)
    if name is None or file.is_file():
        return
    if cause := why_unreachable(HOST):
        raise DataError(f"{file} is missing, and {HOST} is unreachable for its download ({cause}). {HINT}")
