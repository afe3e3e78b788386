"""The drawn leaves: repeatable, balanced, different in every split, and too hard for a linear model."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from beans_exp.data import SPLITS
from beans_exp.data.leaf_classes import CLASSES
from beans_exp.data.leaves import draw_leaf, draw_split

ANGULAR, RUST, HEALTHY = range(len(CLASSES))


def stacked(n: int, size: int, seed: int, split: str) -> tuple[np.ndarray, np.ndarray]:
    """A drawn split as two arrays: uint8 (n, size, size, 3), int64 (n,)."""
    images, labels = np.empty((max(n, 0), size, size, 3), np.uint8), np.empty(max(n, 0), np.int64)
    for index, (image, label) in enumerate(draw_split(n, size, seed, split)):
        images[index], labels[index] = image, label
    return images, labels


@pytest.mark.parametrize("label", range(len(CLASSES)), ids=CLASSES)
@pytest.mark.parametrize("size", [32, 96, 299])
def test_every_class_is_drawn_at_every_size(size: int, label: int) -> None:
    image = draw_leaf(label, size, (1, 2))
    assert image.shape == (size, size, 3) and image.dtype == np.uint8
    assert image.std() > 10
    assert np.array_equal(image, draw_leaf(label, size, (1, 2)))
    assert not np.array_equal(image, draw_leaf(label, size, (1, 3)))


def test_one_seed_is_one_scene_and_the_label_adds_the_symptoms() -> None:
    angular, rust, healthy = (draw_leaf(label, 96, (5,)).astype(int) for label in range(3))
    changed = [(np.abs(sick - healthy).max(-1) > 20).mean() for sick in (angular, rust)]
    assert all(0.005 < share < 0.4 for share in changed)
    redness = [(image[..., 0] - image[..., 1])[image[..., 0] > image[..., 1]].sum() for image in (rust, healthy)]
    assert redness[0] > redness[1]


def test_a_scene_is_the_same_at_every_size() -> None:
    small, large = (draw_leaf(HEALTHY, size, (9,)).astype(float) for size in (48, 96))
    halved = large.reshape(48, 2, 48, 2, 3).mean((1, 3))
    other = draw_leaf(HEALTHY, 48, (10,)).astype(float)
    assert np.abs(halved - small).mean() < 0.3 * np.abs(halved - other).mean()


@pytest.mark.parametrize("n", [0, 1, 7, 30])
def test_a_split_is_balanced_and_mixed(n: int) -> None:
    images, labels = stacked(n, 32, 0, "train")
    assert images.shape == (n, 32, 32, 3) and images.dtype == np.uint8
    assert labels.shape == (n,) and labels.dtype == np.int64
    counts = np.bincount(labels, minlength=len(CLASSES))
    assert counts.max() - counts.min() <= 1
    if n == 30:
        assert len({tuple(three) for three in labels.reshape(-1, 3).tolist()}) > 1


def test_equal_arguments_give_equal_splits_and_a_shorter_one_is_a_prefix() -> None:
    images, labels = stacked(8, 32, 3, "train")
    for n in (8, 5):
        again, same = stacked(n, 32, 3, "train")
        assert np.array_equal(again, images[:n]) and np.array_equal(same, labels[:n])


def test_no_image_is_drawn_twice() -> None:
    drawn = [stacked(24, 32, seed, split)[0] for seed in (0, 1) for split in SPLITS]
    assert len({image.tobytes() for images in drawn for image in images}) == 24 * len(drawn)


@pytest.mark.parametrize(("one", "other"), [("train", "validation"), ("train", "test"), ("validation", "test")])
def test_no_scene_is_shared_between_splits(one: str, other: str) -> None:
    """Images that differ only in their symptoms would be leaks, because most of their pixels are equal."""
    pair = [stacked(3, 48, 0, split)[0].astype(int) for split in (one, other)]
    assert np.median(np.abs(pair[0] - pair[1]), axis=(1, 2, 3)).min() > 5


@pytest.mark.parametrize(
    ("label", "size", "seed", "key"),
    [(3, 96, (0,), "label"), (-1, 96, (0,), "label"), (0, 31, (0,), "size"), (0, 96, (-1,), "non-negative")],
)
def test_invalid_arguments_are_refused(label: int, size: int, seed: tuple[int, ...], key: str) -> None:
    with pytest.raises(ValueError, match=key):
        draw_leaf(label, size, seed)


def test_a_negative_number_of_images_is_refused() -> None:
    with pytest.raises(ValueError, match="n: at least 0"):
        stacked(-1, 32, 0, "train")


def test_a_linear_model_on_pixels_fails() -> None:
    (train, labels), (test, truth) = (_pixels(stacked(n, 48, 0, s)) for n, s in ((180, "train"), (120, "test")))
    assert _linear_accuracy(train, labels, test, truth) < 0.6


def test_the_symptoms_can_be_learnt_from_local_colour() -> None:
    """In contrast to the test above, features of single pixels distinguish the classes, so a CNN can learn them."""
    (train, labels), (test, truth) = (_shares(stacked(n, 64, 0, s)) for n, s in ((120, "train"), (60, "test")))
    assert _linear_accuracy(train, labels, test, truth) > 0.7


def _linear_accuracy(train: np.ndarray, labels: np.ndarray, test: np.ndarray, truth: np.ndarray) -> float:
    scaler = StandardScaler().fit(train)
    with threadpool_limits(1):  # on a busy machine BLAS threads wait for each other: 5 s instead of 0.2 s
        model = LogisticRegression(C=0.01, tol=0.01, max_iter=500).fit(scaler.transform(train), labels)
    assert model.score(scaler.transform(train), labels) > 0.7  # it has learnt the training images
    return float(model.score(scaler.transform(test), truth))


def _pixels(split: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    images, labels = split
    return images.reshape(len(images), -1).astype(np.float32), labels


def _shares(split: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The fractions of each image that are strongly orange, brown, and edges of brightness: (n, 3)."""
    images, labels = split
    red, green, blue = np.moveaxis(images.astype(float), -1, 0)
    orange = (red > 1.25 * green) & (green > blue) & (red > 2 * blue)
    brown = (np.abs(red - green) < 0.3 * (red + 1)) & (np.maximum(red, green) < 1.8 * (blue + 1))
    edges = np.abs(np.diff(images.astype(float).mean(-1), axis=1)) > 25
    return np.log(np.stack([mask.mean((1, 2)) + 1e-3 for mask in (orange, brown, edges)], 1)), labels
