"""Resizing of images, the same for training and prediction."""

import numpy as np


def resize(image: np.ndarray, size: int) -> np.ndarray:
    """Return `image` (H, W, 3), values 0..255, as uint8 (size, size, 3): bilinear, rounded."""
    if image.shape[:2] == (size, size) and image.dtype == np.uint8:
        return image
    import tensorflow as tf

    resized = tf.image.resize(image, (size, size), method="bilinear")
    return tf.cast(tf.round(tf.clip_by_value(resized, 0, 255)), tf.uint8).numpy()
