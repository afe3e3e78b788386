"""What is fitted in a stage: a network on the layers of a model, with the outputs that only training needs."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import keras
import tensorflow as tf


@dataclass(frozen=True)
class Graph:
    """From images or activations to logits (b, classes), and the logits of auxiliary classifiers."""

    inputs: keras.KerasTensor
    logits: keras.KerasTensor
    auxiliary: list[keras.KerasTensor] = field(default_factory=list)


def once_traced(model: keras.Model) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return `model` in inference mode as a function that is traced once, for batches of any size."""
    (images,) = model.inputs  # `model.input` is a list in some models that were loaded
    signature = tf.TensorSpec(images.shape, images.dtype)
    return tf.function(partial(model, training=False), input_signature=[signature])
