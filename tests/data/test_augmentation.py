"""Augmentation: a function of seed, epoch and image, with exact flips and turns."""

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from beans_exp.data import Split
from beans_exp.data.augmentation import augment
from beans_exp.schema.names import AUGMENTATIONS
from tests.data.builders import augmented_epochs, noise

traced = tf.function(augment)  # as in `tf.data`


def augmented(images: np.ndarray, kinds: tuple[str, ...], seed: int = 1, epoch: int = 0, first: int = 0) -> np.ndarray:
    index = tf.range(first, first + len(images), dtype=tf.int64)
    return traced(tf.constant(images), index, kinds, seed, tf.constant(epoch, tf.int64)).numpy()


def symmetric_versions(image: np.ndarray) -> set[bytes]:
    """The eight symmetric versions of a square image."""
    turned = [np.rot90(image, times) for times in range(4)]
    return {np.ascontiguousarray(version).tobytes() for one in turned for version in (one, np.fliplr(one))}


FLIPPED = (lambda a: a, np.fliplr, np.flipud, lambda a: np.rot90(a, 2))
TURNED = (lambda a: a, np.rot90, lambda a: np.rot90(a, 2), lambda a: np.rot90(a, 3))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize(
    ("kinds", "ways"),
    [(("flip",), FLIPPED), (("turn",), TURNED), (("flip", "turn"), None)],
    ids=["flip", "turn", "both"],
)
def test_flips_and_turns_give_every_exact_version_about_equally_often(
    kinds: tuple[str, ...], ways: tuple[Callable, ...] | None, dtype: type
) -> None:
    image = noise(8, 8, 3).astype(np.float32)
    expected = {np.ascontiguousarray(way(image)).tobytes() for way in ways} if ways else symmetric_versions(image)
    found = Counter(version.tobytes() for version in augmented(np.stack([image] * 160).astype(dtype), kinds))
    assert set(found) == expected
    assert min(found.values()) > 160 / len(expected) / 2


@pytest.mark.parametrize("kind", AUGMENTATIONS)
def test_augmentation_is_a_function_of_seed_epoch_and_image(kind: str) -> None:
    images = noise(12, 8, 8, 3)
    whole = augmented(images, (kind,))
    assert whole.dtype == np.float32 and whole.shape == images.shape
    assert whole.min() >= 0 and whole.max() <= 255
    assert not np.array_equal(whole, images)
    assert np.array_equal(augmented(images, (kind,)), whole)
    assert np.array_equal(augmented(images[5:8], (kind,), first=5), whole[5:8])
    assert not np.array_equal(augmented(images, (kind,), epoch=1), whole)
    assert not np.array_equal(augmented(images, (kind,), seed=2), whole)
    assert not np.array_equal(augmented(images, (kind,), first=12), whole)


@pytest.mark.parametrize("kind", ["zoom", "contrast", "brightness"])
def test_neighbouring_images_are_augmented_differently(kind: str) -> None:
    changed = augmented(np.stack([noise(8, 8, 3)] * 20), (kind,))
    assert len({image.tobytes() for image in changed}) == 20


@pytest.mark.parametrize("value", [0, 255])
def test_augmented_values_stay_in_bounds(value: int) -> None:
    images = np.full((50, 8, 8, 3), value, np.uint8)
    images[:, :4] = 128
    changed = augmented(images, AUGMENTATIONS)
    assert changed.min() >= 0 and changed.max() <= 255


def test_augmentation_is_independent_of_the_batch_size() -> None:
    split = Split(noise(7, 8, 8, 3), np.arange(7))
    by_two, by_five = (augmented_epochs(split, size, range(2), AUGMENTATIONS) for size in (2, 5))
    assert np.array_equal(by_two, by_five)
    assert not np.array_equal(by_two[0], by_two[1])


def test_the_order_of_the_kinds_is_fixed() -> None:
    images = noise(4, 8, 8, 3)
    assert np.array_equal(augmented(images, AUGMENTATIONS), augmented(images, AUGMENTATIONS[::-1]))
