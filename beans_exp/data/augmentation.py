"""Random changes of training images; each is a function of the seed, the epoch and the image alone.

So a run that goes on from a checkpoint draws what it would have drawn, and flips and quarter turns have versions that
can be counted.
"""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from beans_exp.schema.names import AUGMENTATIONS

ZOOM = 0.2
"""Largest part of a side that is cut away."""
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
"""What flips and quarter turns make of an image: whether it is transposed, its rows reversed, its columns reversed."""


def versions(kinds: Sequence[str]) -> list[tuple[bool, bool, bool]]:
    """Return the versions of an image that the flips and turns among `kinds` draw from: 1, 4 or 8."""
    return SYMMETRIES[tuple(kind for kind in ("flip", "turn") if kind in kinds)]


def are_countable(kinds: Sequence[str]) -> bool:
    """Whether `kinds` make finitely many versions of an image, so that each can be kept."""
    return set(kinds) <= {"flip", "turn"}


def draw_version(place: tf.Tensor, kinds: Sequence[str], seed: int, epoch: tf.Tensor) -> tf.Tensor:
    """Return which of `versions(kinds)` the image at `place` in its split has in `epoch`, int32."""
    count = len(versions(kinds))
    return tf.cast(_uniform(place, seed, 0, epoch)[0] * count, tf.int32)


def in_version(images: np.ndarray, version: tuple[bool, bool, bool]) -> np.ndarray:
    """Return `images` (b, S, S, 3) in one of `versions`."""
    transposed, rows, columns = version
    images = images.transpose(0, 2, 1, 3) if transposed else images
    return images[:, :: -1 if rows else 1, :: -1 if columns else 1]


def augment(images: tf.Tensor, index: tf.Tensor, kinds: Sequence[str], seed: int, epoch: tf.Tensor) -> tf.Tensor:
    """Return `images` (b, S, S, 3), values 0..255, as float32, changed by `kinds`, in the order of `AUGMENTATIONS`.

    `index` int64 (b,) is each image's place in its split. uint8 images are flipped and turned fastest.
    """
    if not kinds:
        return as_floats(images)

    def change(image: tf.Tensor, place: tf.Tensor) -> tf.Tensor:
        image = _symmetric(image, draw_version(place, kinds, seed, epoch), kinds)
        for number, kind in enumerate(AUGMENTATIONS):
            if kind in _CHANGES and kind in kinds:
                image = _CHANGES[kind](image, _uniform(place, seed, number, epoch))
        return tf.cast(image, tf.float32)

    signature = tf.TensorSpec(images.shape[1:], tf.float32)
    return tf.map_fn(lambda pair: change(*pair), (images, index), fn_output_signature=signature)


def as_floats(images: tf.Tensor) -> tf.Tensor:
    """Return uint8 images as float32, and activations in the number format they have: the next layer's."""
    return tf.cast(images, tf.float32) if images.dtype.is_integer else images


def _uniform(place: tf.Tensor, seed: int, number: int, epoch: tf.Tensor) -> tf.Tensor:
    """Three numbers in [0, 1) for one image and one kind of change."""
    stream = tf.random.fold_in((tf.cast(seed, tf.int64), tf.cast(number, tf.int64)), epoch)
    return tf.random.stateless_uniform((3,), tf.random.fold_in(stream, place))


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
