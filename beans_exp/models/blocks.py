"""The blocks of a base, found in its graph.

A base can be cut at a tensor through which every path runs. Its blocks end at such tensors: at a merge of paths (an
addition, a concatenation), or at a pooling. What follows without weights, such as an activation, still belongs to the
block. Some graphs need more:

- The stem, which counts as the last block, is all that lies below the first block with a merge.
- A concatenation that only adds channels to its input (DenseNet's) ends no block: the pooling after several does.
- A base without merges and poolings (MobileNet's) has a block for each resolution.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import keras
from keras import layers

from beans_exp.models.graph import calls

STEM = "stem"
POOLINGS = (layers.MaxPooling2D, layers.AveragePooling2D)
GATES = ("Multiply",)
"""Operations on several tensors that end no block: squeeze-and-excitation multiplies channels by weights."""


@dataclass(frozen=True)
class Block:
    """The layers from the end of the block below to the tensor `output`, through which every path runs."""

    name: str
    output: keras.KerasTensor
    calls: list[Any]

    @property
    def layers(self) -> list[keras.Layer]:
        """The layers of the block, each once."""
        return list(dict.fromkeys(call.operation for call in self.calls if isinstance(call.operation, keras.Layer)))


def find_blocks(base: keras.Model) -> list[Block]:
    """Return the blocks of the functional model `base`, bottom up; the first is the stem.

    They have the names of their last operations, or `block1`, `block2`, … where Keras numbers these itself: such a
    number depends on the models that a process built before.
    """
    pieces = list(_pieces(base))
    first = next((place for place, piece in enumerate(pieces) if _is_merge(piece[-1])), 0)
    stem, rest = pieces[:first], pieces[first:]
    ends = [_is_end(piece) for piece in rest]
    if not any(ends):
        ends = [_shape(piece) != _shape(above) for piece, above in pairwise(rest)] + [True]
    found = _grouped(stem, [False] * len(stem)) + _grouped(rest, ends)
    return [Block(_name(place, calls[-1]), calls[-1].output_tensors[0], calls) for place, calls in enumerate(found)]


def _pieces(base: keras.Model) -> Iterator[list[Any]]:
    """Yield the calls between each two neighboring cuts of `base`, bottom up: the last one makes the upper cut."""
    ordered = calls(base)
    last_use = {id(tensor): place for place, call in enumerate(ordered) for tensor in call.input_tensors}
    last_use[id(base.outputs[0])] = len(ordered)
    needed: set[int] = {id(base.inputs[0])}
    piece: list[Any] = []
    for place, call in enumerate(ordered):
        piece.append(call)
        needed |= {id(tensor) for tensor in call.output_tensors}
        needed = {tensor for tensor in needed if last_use.get(tensor, -1) > place}
        if needed == {id(tensor) for tensor in call.output_tensors}:
            yield piece
            piece = []


def _grouped(pieces: list[list[Any]], ends: list[bool]) -> list[list[Any]]:
    """Join `pieces` to blocks that hold weights; pieces without weights after the end of a block belong to it."""
    groups: list[list[Any]] = []
    is_open = False
    for piece, is_end in zip(pieces, ends, strict=True):
        follows = bool(groups) and not _has_weights(piece) and not isinstance(piece[-1].operation, layers.ZeroPadding2D)
        if not is_open and not follows:
            groups.append([])
            is_open = True
        groups[-1] += piece
        is_open = is_open and not (is_end and _has_weights(groups[-1]))
    if len(groups) > 1 and not _has_weights(groups[-1]):
        groups[-2:] = [groups[-2] + groups[-1]]
    return groups


def _has_weights(piece: list[Any]) -> bool:
    return any(isinstance(call.operation, keras.Layer) and call.operation.weights for call in piece)


def _is_merge(call: Any) -> bool:
    return len(call.input_tensors) > 1 and type(call.operation).__name__ not in GATES


def _is_end(piece: list[Any]) -> bool:
    last = piece[-1]
    if isinstance(last.operation, POOLINGS):
        return True
    below = piece[0].input_tensors[0]
    grows = isinstance(last.operation, layers.Concatenate) and any(tensor is below for tensor in last.input_tensors)
    return _is_merge(last) and not grows


def _shape(piece: list[Any]) -> tuple[int, ...]:
    return piece[-1].output_tensors[0].shape[1:3]


def _name(place: int, last: Any) -> str:
    if place == 0:
        return STEM
    name = last.operation.name
    return f"block{place}" if re.fullmatch(rf"{_usual_name(last.operation)}(_\d+)?", name) else str(name)


def _usual_name(operation: Any) -> str:
    """The name that Keras gives an operation without one, up to its number."""
    words = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", type(operation).__name__)
    return re.sub("([a-z])([A-Z])", r"\1_\2", words).lower()
