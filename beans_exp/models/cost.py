"""The cost of a model, counted from its layers."""

import math
from collections.abc import Iterable

import keras
from keras import layers

DENSE = (layers.Dense, layers.Conv1D, layers.Conv2D, layers.Conv3D, layers.DepthwiseConv1D, layers.DepthwiseConv2D)
"""Layers that use each number of their kernel once for each position of the output."""


def model_metrics(model: keras.Model) -> dict[str, float]:
    """Return the costs of `model` by the names that a run logs."""
    total, trainable = parameters(model)
    return {
        "model/parameters": total,
        "model/trainable_parameters": trainable,
        "model/macs": multiply_adds(model),
        "model/size_mb": size_mb(model),
    }


def multiply_adds(model: keras.Model) -> int:
    """Return the multiply-adds of one image's forward pass in convolutions and Dense layers, without biases."""
    return layers_multiply_adds([model])


def layers_multiply_adds(found: Iterable[keras.Layer]) -> int:
    """Return the multiply-adds of `found` and of the layers inside them."""
    return sum(_layer_multiply_adds(inner) for layer in found for inner in layer._flatten_layers())


def _layer_multiply_adds(layer: keras.Layer) -> int:
    if not isinstance(layer, (*DENSE, layers.SeparableConv1D, layers.SeparableConv2D)):
        return 0
    try:
        positions = math.prod(layer.output.shape[1:-1])
    except AttributeError:  # a layer of a subclassed model, called outside of any graph
        return 0
    kernels = [layer.kernel] if isinstance(layer, DENSE) else [layer.depthwise_kernel, layer.pointwise_kernel]
    return positions * sum(math.prod(kernel.shape) for kernel in kernels)


def parameters(model: keras.Model) -> tuple[int, int]:
    """Return the number of all and of trainable parameters of `model`."""
    return model.count_params(), sum(math.prod(weight.shape) for weight in model.trainable_weights)


def size_mb(model: keras.Model) -> float:
    """Return the size of the weights of `model` in megabytes (10^6 bytes)."""
    return sum(math.prod(weight.shape) * weight.numpy().dtype.itemsize for weight in model.weights) / 1e6
