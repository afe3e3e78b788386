"""The blocks of a base with their costs, from its graph alone."""

import math
from contextlib import nullcontext
from dataclasses import dataclass

import keras
from keras.src.backend.common.stateless_scope import StatelessScope

from beans_exp.models.backbone import BASE
from beans_exp.models.blocks import find_blocks
from beans_exp.models.build import build
from beans_exp.models.cost import layers_multiply_adds
from beans_exp.schema import Config

NUMBER_BYTES = {"float32": 4, "bfloat16": 2, "auto": 4}


@dataclass(frozen=True)
class BlockCost:
    """A block: the shape of its output, the cost of its layers, and the size of an image's activations above it."""

    name: str
    shape: tuple[int, ...]
    parameters: int
    multiply_adds: int
    cached_bytes: int
    """In the cache of frozen layers; above the top block, activations are cached after the pooling."""


def block_costs(config: Config) -> list[BlockCost]:
    """Return the blocks of the base of `config`, bottom up, the stem first.

    The base of a shipped model is built without the numbers of its weights, in little memory.
    """
    with nullcontext() if config.model.build else StatelessScope():
        base = build(config, classes=2).get_layer(BASE)
    blocks = find_blocks(base)
    return [
        BlockCost(
            name=block.name,
            shape=tuple(block.output.shape[1:]),
            parameters=sum(layer.count_params() for layer in block.layers),
            multiply_adds=layers_multiply_adds(block.layers),
            cached_bytes=_cached(block.output, block is blocks[-1]) * NUMBER_BYTES[config.trainer.precision],
        )
        for block in blocks
    ]


def _cached(output: keras.KerasTensor, is_top: bool) -> int:
    return int(output.shape[-1]) if is_top else math.prod(output.shape[1:])
