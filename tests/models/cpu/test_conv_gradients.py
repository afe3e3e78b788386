"""Faster kernel gradients of convolutions: equal to those of the library, and used only where they are faster."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from beans_exp.models.cpu import conv_gradients as gradients
from beans_exp.models.cpu.conv_gradients import (
    KernelGradient,
    convolution,
    matmul_gradient,
    speed_up_kernel_gradients,
    transposed_gradient,
)


@pytest.mark.parametrize("kernel_gradient", [matmul_gradient, transposed_gradient])
@pytest.mark.parametrize("kernel", [(1, 1), (1, 7), (7, 1), (3, 3), (5, 5)])
def test_a_convolution_and_its_gradients_equal_those_of_the_library(
    kernel: tuple[int, int], kernel_gradient: KernelGradient
) -> None:
    images, weights = tf.random.normal((2, 6, 5, 3)), tf.random.normal((*kernel, 3, 4))
    found = []
    for op in (convolution(kernel_gradient), lambda images, weights: tf.nn.conv2d(images, weights, 1, "SAME")):
        with tf.GradientTape() as tape:
            tape.watch([images, weights])
            output = op(images, weights)
            total = tf.reduce_sum(output**2)
        found.append([output, *tape.gradient(total, [images, weights])])
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("flags", "kernel", "options", "replaced"),
    [
        ({"avx2"}, (3, 3), {"padding": "same"}, True),
        ({"avx2", "avx512f"}, (3, 3), {"padding": "same"}, False),
        ({"avx2", "avx512f"}, (3, 1), {"padding": "same"}, True),
        ({"avx2", "avx512f"}, (1, 3), {"padding": "same"}, False),
        (set(), (3, 1), {"padding": "same"}, False),
        ({"avx2"}, (3, 3), {"padding": "valid"}, False),
        ({"avx2"}, (3, 3), {"padding": "same", "strides": 2}, False),
        ({"avx2", "avx512f"}, (3, 1), {"padding": "same", "dilation_rate": 2}, False),
    ],
)
def test_convolutions_are_replaced_if_that_is_faster_and_equal(
    monkeypatch: pytest.MonkeyPatch, flags: set[str], kernel: tuple[int, int], options: dict[str, Any], replaced: bool
) -> None:
    monkeypatch.setattr(gradients, "cpu_flags", lambda: flags)
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, kernel, **options)])
    images = np.random.default_rng(0).random((2, 8, 8, 3), np.float32)
    before = model(images)
    speed_up_kernel_gradients(model)
    assert ("convolution_op" in vars(model.layers[0])) == replaced
    np.testing.assert_allclose(model(images), before, atol=1e-6)
    assert keras.models.clone_model(model).count_params() == model.count_params()
