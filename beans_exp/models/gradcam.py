"""Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391) on the input of the last layer with spatial dimensions."""

from functools import lru_cache

import keras
import numpy as np
import tensorflow as tf


def gradcam(model: keras.Model, image: np.ndarray, label: int | None = None) -> np.ndarray:
    """Return a heat map of the regions of `image` that support the class `label`, by default the predicted one.

    `model` is any as beans_exp saves it; `image` is raw (S, S, 3), 0..255, at the
    model's size. The heat map is float32 (S, S), 0..1, and 0 everywhere if no region supports the class. Raises
    ValueError for an image of another size and for a model without spatial dimensions.
    """
    expected = tuple(model.inputs[0].shape[1:])
    if image.shape != expected:
        raise ValueError(f"an image of {image.shape} does not fit the model, which takes {expected}")
    with tf.GradientTape() as tape:
        batch = tf.convert_to_tensor(image[None], tf.float32)
        tape.watch(batch)
        activations, logits = _spatial_model(model)(batch, training=False)
        score = logits[0, int(tf.argmax(logits[0])) if label is None else label]
    gradients = tape.gradient(score, activations)
    weights = tf.reduce_mean(tf.cast(gradients, tf.float32), axis=(1, 2), keepdims=True)
    heat = tf.nn.relu(tf.reduce_sum(weights * tf.cast(activations, tf.float32), axis=-1, keepdims=True))
    heat = tf.image.resize(heat, image.shape[:2])[0, ..., 0].numpy()
    return heat / heat.max() if heat.max() > 0 else heat


@lru_cache(maxsize=1)
def _spatial_model(model: keras.Model) -> keras.Model:
    """A model from images to (the last activations larger than 1x1, logits)."""
    for layer in reversed(model.layers):
        tensor = layer.input if not isinstance(layer, keras.layers.InputLayer) else None
        if isinstance(tensor, keras.KerasTensor) and len(tensor.shape) == 4 and min(tensor.shape[1:3]) > 1:
            return keras.Model(model.inputs, [tensor, model.outputs[0]])
    raise ValueError(f"the model {model.name} has no layer with spatial dimensions")
