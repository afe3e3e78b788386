"""Batches: stratified fractions, the order of epochs, and resumed streams."""

from itertools import chain

import numpy as np
import pytest
import tensorflow as tf

from beans_exp.data import Split
from beans_exp.data.batches import ordered_batches, stratified, train_batches
from beans_exp.schema import Config
from beans_exp.schema.names import AUGMENTATIONS
from tests.data.builders import augmented_epochs, load_all, noise, numbered, synthetic_config


def indices(split: Split) -> list[int]:
    return split.images[:, 0, 0, 0].tolist()


@pytest.mark.parametrize(
    ("fraction", "expected"), [(1, [20, 40, 6]), (0.5, [10, 20, 3]), (0.1, [2, 4, 1]), (0.001, [1, 1, 1])]
)
def test_a_fraction_is_stratified(fraction: float, expected: list[int]) -> None:
    part = stratified(numbered(20, 40, 6), fraction, seed=3)
    assert np.bincount(part.labels).tolist() == expected
    assert indices(part) == sorted(set(indices(part)))
    assert part.labels.tolist() == [numbered(20, 40, 6).labels[index] for index in indices(part)]


def test_a_fraction_depends_on_the_seed() -> None:
    split = numbered(20, 40, 6)
    assert indices(stratified(split, 0.5, 1)) == indices(stratified(split, 0.5, 1))
    assert indices(stratified(split, 0.5, 1)) != indices(stratified(split, 0.5, 2))


def test_a_fraction_reduces_the_training_split_only() -> None:
    data = load_all(Config(data=synthetic_config(train_fraction=0.34)))
    assert np.bincount(data.train.labels).tolist() == [1, 1, 1]
    assert [len(data.validation), len(data.test)] == [3, 4]


def drawn_order(split: Split, batch_size: int, seed: int, epochs: range) -> list[list[int]]:
    """The indices of the images, batch by batch."""
    batches: list[list[int]] = []
    for images, labels in train_batches(split, batch_size, seed, epochs):
        assert images.dtype == tf.float32 and images.shape[1:] == split.images.shape[1:]
        found = images[:, 0, 0, 0].numpy().astype(int)
        assert labels.numpy().tolist() == split.labels[found].tolist()
        batches.append(found.tolist())
    return batches


@pytest.mark.parametrize("seed", [0, 2**32 - 1])
def test_every_epoch_has_every_image_once_in_its_own_order(seed: int) -> None:
    batches = drawn_order(numbered(6, 4), 4, seed, range(3))
    assert [len(batch) for batch in batches] == [4, 4, 2] * 3  # no batch crosses an epoch
    epochs = [list(chain(*batches[start : start + 3])) for start in (0, 3, 6)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_the_order_depends_on_the_seed() -> None:
    split = numbered(6, 4)
    assert drawn_order(split, 4, 1, range(2)) == drawn_order(split, 4, 1, range(2))
    assert drawn_order(split, 4, 1, range(2)) != drawn_order(split, 4, 2, range(2))


def test_the_order_is_independent_of_the_batch_size() -> None:
    split = numbered(6, 4)
    by_three, by_ten = (list(chain(*drawn_order(split, size, 1, range(2)))) for size in (3, 10))
    assert by_three == by_ten


def test_a_resumed_stream_equals_an_uninterrupted_one() -> None:
    split = numbered(6, 4)
    assert drawn_order(split, 4, 7, range(3, 6)) == drawn_order(split, 4, 7, range(6))[9:]
    pictures = Split(noise(6, 8, 8, 3), np.arange(6))
    assert np.array_equal(
        augmented_epochs(pictures, 4, range(2, 4), AUGMENTATIONS),
        augmented_epochs(pictures, 4, range(4), AUGMENTATIONS)[2:],
    )


def test_ordered_batches_keep_the_order() -> None:
    split = numbered(3, 4)
    batches = list(ordered_batches(split, 3))
    assert [images[:, 0, 0, 0].numpy().tolist() for images, _ in batches] == [[0, 1, 2], [3, 4, 5], [6]]
    assert np.concatenate([labels.numpy() for _, labels in batches]).tolist() == [0, 0, 0, 1, 1, 1, 1]
    assert {images.dtype for images, _ in batches} == {tf.float32}


def test_pipelines_run_without_autotuning() -> None:
    split = numbered(3, 4)  # its thread sometimes delays the end of an iterator by seconds
    for dataset in (train_batches(split, 3, 0, range(1)), ordered_batches(split, 3)):
        assert dataset.options().autotune.enabled is False


def test_batches_without_augmentation_are_the_images() -> None:
    split = Split(noise(5, 8, 8, 3), np.arange(5))
    assert np.array_equal(augmented_epochs(split, 2, range(1), ())[0], split.images)
