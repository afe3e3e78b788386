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
    """Return `images` (b, S, S, 3), values 0..255, as float32, changed by `kinds`, in the order of `AUGMENTATIONS`.

    `index` int64 (b,) is each image's place in its split. uint8 images are flipped and turned fastest.
    """
    if not kinds:
        return tf.cast(images, tf.float32)

    def change(image: tf.Tensor, place: tf.Tensor) -> tf.Tensor:
        for number, kind in enumerate(AUGMENTATIONS):
            if kind in kinds:
                image = _CHANGES[kind](image, _uniform(place, seed, number, epoch))
        return tf.cast(image, tf.float32)

    signature = tf.TensorSpec(images.shape[1:], tf.float32)
    return tf.map_fn(lambda pair: change(*pair), (images, index), fn_output_signature=signature)


def _uniform(place: tf.Tensor, seed: int, number: int, epoch: tf.Tensor) -> tf.Tensor:
    """Three numbers in [0, 1) for one image and one kind of change."""
    stream = tf.random.fold_in((tf.cast(seed, tf.int64), tf.cast(number, tf.int64)), epoch)
    return tf.random.stateless_uniform((3,), tf.random.fold_in(stream, place))


def _flip(image: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
    upright = tf.cond(draws[1] < 0.5, lambda: image, lambda: tf.reverse(image, [0]))
    return tf.cond(draws[2] < 0.5, lambda: upright, lambda: tf.reverse(upright, [1]))


def _turn(image: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
    half = tf.cond(draws[0] < 0.5, lambda: image, lambda: tf.reverse(image, [0, 1]))
    return tf.cond(draws[1] < 0.5, lambda: half, lambda: tf.reverse(tf.transpose(half, (1, 0, 2)), [0]))


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


_CHANGES = {"flip": _flip, "turn": _turn, "zoom": _zoom, "contrast": _contrast, "brightness": _brightness}
