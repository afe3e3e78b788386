"""BatchNorm folded into the preceding convolution: equal outputs and gradients."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from beans_exp.models.cpu.batch_norm import fold_batch_norm


def _model(scale: bool, policy: str) -> keras.Model:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(4, 3, padding="same", use_bias=False, dtype=policy)(inputs)
    x = layers.BatchNormalization(scale=scale, dtype=policy)(x)
    x = layers.Activation("relu", dtype=policy)(x)
    x = layers.Conv2D(2, 1, dtype=policy)(x)
    model = keras.Model(inputs, layers.BatchNormalization(dtype=policy)(x))
    rng = np.random.default_rng(0)
    model.set_weights([rng.uniform(0.5, 2, weight.shape) for weight in model.weights])
    return model


def _outputs_and_gradients(model: keras.Model) -> list[np.ndarray]:
    images = tf.constant(np.random.default_rng(1).random((5, 6, 6, 3), np.float32))
    with tf.GradientTape() as tape:
        output = tf.cast(model(images, training=False), tf.float32)
        total = tf.reduce_mean(output**2)
    return [output.numpy(), *(gradient.numpy() for gradient in tape.gradient(total, model.trainable_variables))]


@pytest.mark.parametrize(("policy", "tolerance"), [("float32", 1e-4), ("mixed_bfloat16", 0.05)])
@pytest.mark.parametrize("scale", [False, True])
def test_outputs_and_gradients_stay_the_same(scale: bool, policy: str, tolerance: float) -> None:
    model = _model(scale, policy)
    before = _outputs_and_gradients(model)
    _, norm, _, other, last = model.layers[1:]
    fold_batch_norm(model)
    assert np.all(norm(tf.ones((1, 6, 6, 4))) == 1), "a folded BatchNorm is the identity"
    assert "convolution_op" not in vars(other) and "call" not in vars(last), "a convolution with a bias stays unchanged"
    for ours, theirs in zip(_outputs_and_gradients(model), before, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance * np.abs(theirs).max())
