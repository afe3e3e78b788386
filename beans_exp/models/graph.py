"""What is fitted in a stage: a network on the layers of a model, with the outputs that only training needs."""

from dataclasses import dataclass, field

import keras


@dataclass(frozen=True)
class Graph:
    """From images or activations to logits (b, classes), and the logits of auxiliary classifiers."""

    inputs: keras.KerasTensor
    logits: keras.KerasTensor
    auxiliary: list[keras.KerasTensor] = field(default_factory=list)
