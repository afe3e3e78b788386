"""`data=synthetic`: any size, and a digest of everything that determines the drawing."""

from pathlib import Path

import numpy as np
import pytest

from beans_exp.data import source
from beans_exp.schema import Config
from tests.data.builders import load_all, synthetic_config


@pytest.mark.parametrize("size", [8, 32, 40])
def test_synthetic_images_have_any_size(size: int) -> None:
    data = load_all(Config(data=synthetic_config(image_size=size)))
    assert [len(data.train), len(data.validation), len(data.test)] == [9, 3, 4]
    assert data.train.images.shape == (9, size, size, 3)
    assert sorted(data.train.labels.tolist()) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert len({image.tobytes() for split in (data.train, data.test) for image in split.images}) == 13


def test_synthetic_images_depend_on_their_seed(tmp_path: Path) -> None:
    def images(name: str, seed: int) -> np.ndarray:
        return load_all(Config(data=synthetic_config(cache_dir=str(tmp_path / name), draw_seed=seed))).train.images

    assert np.array_equal(images("a", 1), images("b", 1))
    assert not np.array_equal(images("a", 1), images("a", 2))


def test_the_synthetic_digest_depends_on_the_images_alone() -> None:
    digest = source(synthetic_config()).digest
    for key, value in {"image_size": 33, "draw_seed": 1, "train_images": 10, "test_images": 5}.items():
        assert source(synthetic_config(**{key: value})).digest != digest, key
    assert source(synthetic_config(train_fraction=0.5, cache_dir="elsewhere")).digest == digest
