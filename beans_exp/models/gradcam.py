"""Where a model looks: Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391) on the last layer that still has places."""

from functools import lru_cache

import keras
import numpy as np
import tensorflow as tf


def gradcam(model: keras.Model, image: np.ndarray, label: int | None = None) -> np.ndarray:
    """Return which places of `image` speak for the class `label`, or where it is None for the predicted one.

    `model` is LeNet, LeNet-5, GoogLeNet or Inception-v3 as beans_exp saves it; `image` is raw (S, S, 3), 0..255, at the
    model's size. The heat is float32 (S, S), 0..1, and 0 everywhere where nothing speaks for the class. Raises
    ValueError for an image of another size and for a model without places.
    """
    expected = tuple(model.inputs[0].shape[1:])
    if image.shape != expected:
        raise ValueError(f"an image of {image.shape} does not fit the model, which takes {expected}")
    with tf.GradientTape() as tape:
        batch = tf.convert_to_tensor(image[None], tf.float32)
        tape.watch(batch)
        places, logits = _with_places(model)(batch, training=False)
        score = logits[0, int(tf.argmax(logits[0])) if label is None else label]
    gradients = tape.gradient(score, places)
    weights = tf.reduce_mean(tf.cast(gradients, tf.float32), axis=(1, 2), keepdims=True)
    heat = tf.nn.relu(tf.reduce_sum(weights * tf.cast(places, tf.float32), axis=-1, keepdims=True))
    heat = tf.image.resize(heat, image.shape[:2])[0, ..., 0].numpy()
    return heat / heat.max() if heat.max() > 0 else heat


@lru_cache(maxsize=1)
def _with_places(model: keras.Model) -> keras.Model:
    """From images to (the last activations with more than one place, logits)."""
    for layer in reversed(model.layers):
        tensor = layer.input if not isinstance(layer, keras.layers.InputLayer) else None
        if isinstance(tensor, keras.KerasTensor) and len(tensor.shape) == 4 and min(tensor.shape[1:3]) > 1:
            return keras.Model(model.inputs, [tensor, model.outputs[0]])
    raise ValueError(f"the model {model.name} has no layer with places")
