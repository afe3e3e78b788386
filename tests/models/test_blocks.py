"""Blocks that are found in graphs: small ones by hand, and those of the shipped bases as the table lists them."""

from collections.abc import Callable
from typing import TypeAlias

import keras
import pytest
from keras import layers

from beans_exp.models.blocks import find_blocks
from beans_exp.models.describe_bases import architectures, describe
from beans_exp.schema.shipped import MODELS, bases

Tensor: TypeAlias = keras.KerasTensor


def _conv(x: Tensor, name: str, strides: int = 1, filters: int = 4) -> Tensor:
    return layers.Conv2D(filters, 3, strides, padding="same", name=name)(x)


def _residual(x: Tensor, name: str) -> Tensor:
    return layers.ReLU(name=f"{name}_out")(layers.Add(name=name)([x, _conv(x, f"{name}_conv")]))


def _gated(x: Tensor, name: str) -> Tensor:
    gate = layers.Dense(4, name=f"{name}_gate")(layers.GlobalAveragePooling2D(keepdims=True)(x))
    return layers.Multiply(name=name)([x, gate])


def _residuals(x: Tensor) -> Tensor:
    return _residual(_residual(layers.MaxPooling2D(name="pool")(_conv(x, "first")), "a"), "b")


def _operations(x: Tensor) -> Tensor:
    x = _conv(x, "first")
    for number in range(2):
        x = x + _conv(x, f"conv{number}")
    return x


def _squeeze_and_excitation(x: Tensor) -> Tensor:
    return _residual(_gated(_conv(_residual(_conv(x, "first"), "a"), "conv"), "gate"), "b")


def _dense(x: Tensor) -> Tensor:
    x = layers.MaxPooling2D(name="pool0")(_conv(x, "first"))
    for stage in (1, 2):
        for number in (1, 2):
            x = layers.Concatenate(name=f"concat{stage}{number}")([x, _conv(x, f"conv{stage}{number}")])
        x = layers.AveragePooling2D(2, name=f"pool{stage}")(_conv(x, f"transition{stage}"))
    return x


def _branches(x: Tensor) -> Tensor:
    x = _conv(x, "first")
    for number in range(2):
        pooled = layers.MaxPooling2D(3, 1, padding="same")(x)
        x = layers.Concatenate(name=f"mixed{number}")([_conv(x, f"left{number}"), _conv(pooled, f"right{number}")])
    return _conv(x, "last")


def _chain(x: Tensor) -> Tensor:
    for number in range(6):
        x = layers.ReLU(name=f"relu{number}")(_conv(x, f"conv{number}", strides=1 + number % 2))
    return x


def _poolings(x: Tensor) -> Tensor:
    for number in range(3):
        x = layers.MaxPooling2D(name=f"pool{number}")(_conv(_conv(x, f"conv{number}a"), f"conv{number}b"))
    return x


def _tangled(x: Tensor) -> Tensor:
    before, x = _conv(x, "first"), _conv(x, "second")
    for number in range(3):
        before, x = x, layers.Add(name=f"add{number}")([before, _conv(x, f"conv{number}")])
    return x


GRAPHS: list[tuple[Callable[[Tensor], Tensor], list[str]]] = [
    (_residuals, ["stem", "a_out", "b_out"]),
    (_operations, ["stem", "block1", "block2"]),
    (_squeeze_and_excitation, ["stem", "a_out", "b_out"]),
    (_dense, ["stem", "pool1", "pool2"]),
    (_branches, ["stem", "mixed0", "mixed1", "last"]),
    (_chain, ["stem", "relu2", "relu4", "relu5"]),
    (_poolings, ["stem", "pool1", "pool2"]),
    (_tangled, ["stem"]),
]


@pytest.mark.parametrize(("build", "names"), GRAPHS, ids=lambda value: getattr(value, "__name__", ""))
def test_blocks_end_where_every_path_runs_through_one_tensor(
    build: Callable[[Tensor], Tensor], names: list[str]
) -> None:
    images = keras.Input((32, 32, 3))
    model = keras.Model(images, build(images))
    blocks = find_blocks(model)
    assert [block.name for block in blocks] == names
    assert blocks[-1].output is model.output
    assert sum(layer.count_params() for block in blocks for layer in block.layers) == model.count_params()
    assert all(any(layer.weights for layer in block.layers) for block in blocks)
    for place, block in enumerate(blocks):  # a base that ends at a lower block has the same blocks below it
        lower = keras.Model(images, block.output)
        assert [other.name for other in find_blocks(lower)] == names[: place + 1]


SMALL = ["inception", "ResNet50", "EfficientNetV2B0", "MobileNetV3Small", "DenseNet121", "ConvNeXtTiny"]


@pytest.mark.parametrize("name", SMALL)
def test_the_table_has_the_blocks_of_the_graph(name: str) -> None:
    described = describe("InceptionV3" if name == "inception" else name)
    assert bases()[name] == described


def test_the_table_has_every_architecture_of_keras() -> None:
    assert {name for name in bases() if name not in MODELS} == set(architectures())
    counts = {name: len(bases()[name]["blocks"]) for name in SMALL}
    assert list(counts.values()) == [11, 16, 16, 7, 4, 19]
    assert bases()["inception"]["blocks"] == [f"mixed{number}" for number in range(11)]
