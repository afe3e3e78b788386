"""The network that a stage fits: it shares the layers of a model and has the outputs that only training needs."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

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
