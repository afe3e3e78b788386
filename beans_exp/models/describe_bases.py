"""Facts about the shipped bases that the configuration is checked with, before TensorFlow is imported.

    python -m beans_exp.models.describe_bases    # writes beans_exp/schema/bases.json, in some minutes

Each graph is built without its weights, which takes no memory.
"""

import inspect
import json
import warnings
from collections.abc import Iterator
from typing import Any, NoReturn
from unittest.mock import patch

import keras
from keras.src.applications import imagenet_utils
from keras.src.backend.common.stateless_scope import StatelessScope
from keras.src.utils import file_utils

from beans_exp.models.blocks import find_blocks
from beans_exp.schema.shipped import BASES

INCEPTION = "InceptionV3"
"""What `model=inception` is built of."""


class FileFoundError(Exception):
    """Instead of the download of a weights file: its name."""


def architectures() -> Iterator[str]:
    """Yield the names of the classes of `keras.applications`, without the abstract ones of a family."""
    for name, function in vars(keras.applications).items():
        if inspect.isfunction(function) and "include_top" in inspect.signature(function).parameters:
            yield name


def describe(name: str) -> dict[str, Any]:
    """Return the smallest image, the ImageNet file and the blocks, bottom up without the stem, of an architecture."""
    function, smallest = getattr(keras.applications, name), 1
    usual = imagenet_utils.obtain_input_shape

    def obtain(*args: Any, **options: Any) -> Any:
        nonlocal smallest
        smallest = options["min_size"]
        return usual(*args, **options)

    with StatelessScope(), patch.object(imagenet_utils, "obtain_input_shape", obtain):
        graph = function(include_top=False, weights=None, input_shape=(331, 331, 3))
    blocks = [block.name for block in find_blocks(graph)]
    return {"smallest_image": smallest, "weights_file": _weights_file(name), "blocks": blocks[1:]}


def _weights_file(name: str) -> str:
    def found(file: str, *args: Any, **options: Any) -> NoReturn:
        raise FileFoundError(file)

    try:
        with StatelessScope(), warnings.catch_warnings(action="ignore"), patch.object(file_utils, "get_file", found):
            getattr(keras.applications, name)(include_top=False, weights="imagenet", input_shape=(331, 331, 3))
    except FileFoundError as file:
        return str(file)
    raise ValueError(f"{name} loads no weights")


def main() -> None:
    """Describe every architecture."""
    found = {}
    for name in sorted(architectures()):
        found[name] = describe(name)
        print(name, len(found[name]["blocks"]), flush=True)
        keras.backend.clear_session()
    found = {"inception": found[INCEPTION]} | found
    BASES.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
