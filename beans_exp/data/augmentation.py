"""Random augmentation of training images, a function of the seed, the epoch and the image alone.

A resumed run therefore draws the same numbers as an uninterrupted one. Flips and quarter turns have finitely many
versions, each of which can be cached.
"""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from beans_exp.schema.names import AUGMENTATIONS

ZOOM = 0.2
"""Largest fraction of a side that is cropped."""
CONTRAST = 0.2
BRIGHTNESS = 25.0
"""Largest shift of a pixel's value (of 255)."""

SYMMETRIES: dict[tuple[str, ...], list[tuple[bool, bool, bool]]] = {
    (): [(False, False, False)],
    ("flip",): [(False, rows, columns) for rows in (False, True) for columns in (False, True)],
    ("turn",): [(False, False, False), (True, True, False), (False, True, True), (True, False, True)],
    ("flip", "turn"): [
        (turned, rows, columns) for turned in (False, True) for rows in (False, True) for columns in (False, True)
    ],
}
"""The versions of an image under flips and quarter turns: transposed, rows reversed, columns reversed."""


def versions(kinds: Sequence[str]) -> list[tuple[bool, bool, bool]]:
    """Return the 1, 4 or 8 versions of an image that the flips and turns in `kinds` draw from."""
    return SYMMETRIES[tuple(kind for kind in ("flip", "turn") if kind in kinds)]


def are_countable(kinds: Sequence[str]) -> bool:
    """Whether `kinds` have finitely many versions of an image, so that each can be cached."""
    return set(kinds) <= {"flip", "turn"}


def draw_version(index: tf.Tensor, kinds: Sequence[str], seed: int, epoch: tf.Tensor) -> tf.Tensor:
    """Return which of `versions(kinds)` the image at `index` in its split has in `epoch`, int32."""
    count = len(versions(kinds))
    return tf.cast(_uniform(index, seed, 0, epoch)[0] * count, tf.int32)


def apply_version(images: np.ndarray, version: tuple[bool, bool, bool]) -> np.ndarray:
    """Return `images` (b, S, S, 3) transformed to one of `versions`."""
    transposed, rows, columns = version
    images = images.transpose(0, 2, 1, 3) if transposed else images
    return images[:, :: -1 if rows else 1, :: -1 if columns else 1]


def augment(images: tf.Tensor, indices: tf.Tensor, kinds: Sequence[str], seed: int, epoch: tf.Tensor) -> tf.Tensor:
    """Return `images` (b, S, S, 3), values 0..255, as float32, augmented by `kinds` in the order of `AUGMENTATIONS`.

    `indices` int64 (b,) are the images' positions in their split. Flips and turns are fastest on uint8 images.
    """
    if not kinds:
        return as_floats(images)

    def augment_one(image: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
        image = _symmetric(image, draw_version(index, kinds, seed, epoch), kinds)
        for number, kind in enumerate(AUGMENTATIONS):
            if kind in _CHANGES and kind in kinds:
                image = _CHANGES[kind](image, _uniform(index, seed, number, epoch))
        return tf.cast(image, tf.float32)

    signature = tf.TensorSpec(images.shape[1:], tf.float32)
    return tf.map_fn(lambda pair: augment_one(*pair), (images, indices), fn_output_signature=signature)


def as_floats(images: tf.Tensor) -> tf.Tensor:
    """Return uint8 images as float32; activations keep the number format of the next layer."""
    return tf.cast(images, tf.float32) if images.dtype.is_integer else images


def _uniform(index: tf.Tensor, seed: int, number: int, epoch: tf.Tensor) -> tf.Tensor:
    """Three numbers in [0, 1) for one image and one kind of augmentation."""
    stream = tf.random.fold_in((tf.cast(seed, tf.int64), tf.cast(number, tf.int64)), epoch)
    return tf.random.stateless_uniform((3,), tf.random.fold_in(stream, index))


def _symmetric(image: tf.Tensor, version: tf.Tensor, kinds: Sequence[str]) -> tf.Tensor:
    transposed, rows, columns = tf.unstack(tf.constant(versions(kinds))[version])
    turned = tf.cond(transposed, lambda: tf.transpose(image, (1, 0, 2)), lambda: image)
    turned = tf.cond(rows, lambda: tf.reverse(turned, [0]), lambda: turned)
    return tf.cond(columns, lambda: tf.reverse(turned, [1]), lambda: turned)


def _zoom(image: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
    side = 1 - ZOOM * draws[0]
    top, left = (1 - side) * draws[1], (1 - side) * draws[2]
    box = tf.stack((top, left, top + side, left + side))
    return tf.image.crop_and_resize(image[None], box[None], [0], tf.shape(image)[:2])[0]


def _contrast(image: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
    values = tf.cast(image, tf.float32)
    factor = 1 + CONTRAST * (2 * draws[0] - 1)
    mean = tf.reduce_mean(values, axis=(0, 1))
    return tf.clip_by_value(mean + factor * (values - mean), 0, 255)


def _brightness(image: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
    shift = BRIGHTNESS * (2 * draws[0] - 1)
    return tf.clip_by_value(tf.cast(image, tf.float32) + shift, 0, 255)


_CHANGES = {"zoom": _zoom, "contrast": _contrast, "brightness": _brightness}
