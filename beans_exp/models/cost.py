"""The cost of a model, counted from its layers."""

import math

import keras


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
    return sum(_layer_multiply_adds(layer) for layer in model._flatten_layers())


def _layer_multiply_adds(layer: keras.Layer) -> int:
    if isinstance(layer, keras.layers.Conv2D):
        positions = math.prod(layer.output.shape[1:3])
        return positions * math.prod(layer.kernel.shape)
    if isinstance(layer, keras.layers.Dense):
        return math.prod(layer.kernel.shape)
    return 0


def parameters(model: keras.Model) -> tuple[int, int]:
    """Return the number of all and of trainable parameters of `model`."""
    return model.count_params(), sum(math.prod(weight.shape) for weight in model.trainable_weights)


def size_mb(model: keras.Model) -> float:
    """Return the size of the weights of `model` in megabytes (10^6 bytes)."""
    return sum(math.prod(weight.shape) * weight.numpy().dtype.itemsize for weight in model.weights) / 1e6
