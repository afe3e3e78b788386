"""Random changes of training images; each is a function of the seed, the epoch and the image alone.

So a run that goes on from a checkpoint draws what it would have drawn, and flips and quarter turns have versions that
can be counted.
"""

from collections.abc import Sequence

import tensorflow as tf

from beans_exp.schema.names import AUGMENTATIONS

ZOOM = 0.2
"""Largest part of a side that is cut away."""
CONTRAST = 0.2
BRIGHTNESS = 25.0
"""Largest shift of a pixel's value (of 255)."""


def augment(images: tf.Tensor, index: tf.Tensor, kinds: Sequence[str], seed: int, epoch: tf.Tensor) -> tf.Tensor:
    """Return `images` float32 (b, S, S, 3), values 0..255, changed by `kinds`, in the order of `AUGMENTATIONS`.

    `index` int64 (b,) is each image's place in its split.
    """
    for number, kind in enumerate(AUGMENTATIONS):
        if kind in kinds:
            images = _CHANGES[kind](images, _uniform(index, seed, number, epoch))
    return images


def _uniform(index: tf.Tensor, seed: int, number: int, epoch: tf.Tensor) -> tf.Tensor:
    """Three numbers in [0, 1) for each image, (b, 3)."""
    stream = tf.random.fold_in((tf.cast(seed, tf.int64), tf.cast(number, tf.int64)), epoch)
    return tf.map_fn(
        lambda place: tf.random.stateless_uniform((3,), tf.random.fold_in(stream, place)),
        index,
        fn_output_signature=tf.float32,
    )


def _flip(images: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
    for axis in (1, 2):
        images = tf.where((draws[:, axis] < 0.5)[:, None, None, None], images, tf.reverse(images, [axis]))
    return images


def _turn(images: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
    half = tf.where((draws[:, 0] < 0.5)[:, None, None, None], images, tf.reverse(images, [1, 2]))
    quarter = tf.reverse(tf.transpose(half, (0, 2, 1, 3)), [1])
    return tf.where((draws[:, 1] < 0.5)[:, None, None, None], half, quarter)


def _zoom(images: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
    side = 1 - ZOOM * draws[:, 0]
    top, left = (1 - side) * draws[:, 1], (1 - side) * draws[:, 2]
    boxes = tf.stack((top, left, top + side, left + side), axis=1)
    return tf.image.crop_and_resize(images, boxes, tf.range(tf.shape(images)[0]), tf.shape(images)[1:3])


def _contrast(images: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
    factor = (1 + CONTRAST * (2 * draws[:, 0] - 1))[:, None, None, None]
    mean = tf.reduce_mean(images, axis=(1, 2), keepdims=True)
    return tf.clip_by_value(mean + factor * (images - mean), 0, 255)


def _brightness(images: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
    shift = BRIGHTNESS * (2 * draws[:, 0] - 1)
    return tf.clip_by_value(images + shift[:, None, None, None], 0, 255)


_CHANGES = {"flip": _flip, "turn": _turn, "zoom": _zoom, "contrast": _contrast, "brightness": _brightness}
