"""Graphs of functional models: what lies below a tensor, and the network that a stage fits.

A fitted network shares the layers of a model and has the outputs that only training needs.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import keras
import tensorflow as tf


@dataclass(frozen=True)
class Graph:
    """A network from images or activations to logits (b, classes), and to the logits of auxiliary classifiers."""

    inputs: keras.KerasTensor
    logits: keras.KerasTensor
    auxiliary: list[keras.KerasTensor] = field(default_factory=list)


def inference_function(model: keras.Model) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return `model` in inference mode as a function that is traced once for batches of any size."""
    (images,) = model.inputs  # `model.input` is a list in some loaded models
    signature = tf.TensorSpec(images.shape, images.dtype)
    return tf.function(partial(model, training=False), input_signature=[signature])


def calls(model: keras.Model) -> list[Any]:
    """Return the calls of the operations of a functional `model`, each after those whose outputs it takes.

    Each has `operation`, `input_tensors` and `output_tensors`. Operations are more than layers: `x + y` is one.
    """
    by_depth = model._nodes_by_depth
    return [call for depth in sorted(by_depth, reverse=True) for call in by_depth[depth] if call.input_tensors]


def call_of(tensor: keras.KerasTensor) -> Any:
    """Return the call of the operation that made `tensor`."""
    history = tensor._keras_history
    return history.operation._inbound_nodes[history.node_index]


def tensors_below(outputs: Iterable[keras.KerasTensor]) -> set[int]:
    """Return the `id` of each of `outputs`, and of every tensor that they are computed from."""
    found: set[int] = set()
    pending = list(outputs)
    while pending:
        tensor = pending.pop()
        if id(tensor) not in found:
            found.add(id(tensor))
            pending += call_of(tensor).input_tensors
    return found
