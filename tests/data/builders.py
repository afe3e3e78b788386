"""Images, folders and configurations that the tests of several data sets share."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from beans_exp.data import Data, Split, load, source
from beans_exp.data.batches import train_batches
from beans_exp.data.cache_folder import cache_root
from beans_exp.schema import Config, DataConfig

RNG = np.random.default_rng(0)


def noise(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def save(file: Path, pixels: np.ndarray, **options: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file, **options)


def truncate(file: Path, fraction: float) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: int(fraction * len(content))])


def folder_config(root: Path, **keys: Any) -> Config:
    return Config(data=DataConfig(name="folder", data_dir=str(root), image_size=8, **keys))


def synthetic_config(**keys: Any) -> DataConfig:
    counts = {"train_images": 9, "validation_images": 3, "test_images": 4}
    return DataConfig(**{"name": "synthetic", "image_size": 32, "draw_seed": 0, **counts, **keys})


def load_all(config: Config) -> Data:
    return load(config, source(config.data))


def prepared_folders() -> list[str]:
    """The content of the test's own cache, except lock files."""
    return [path.name for path in cache_root(None).glob("data/*") if path.suffix != ".lock"]


def numbered(*counts: int, size: int = 8) -> Split:
    """A split with `counts` images per class; every value of an image is its index."""
    labels = np.repeat(np.arange(len(counts)), counts)
    images = np.broadcast_to(np.arange(len(labels), dtype=np.uint8)[:, None, None, None], (len(labels), size, size, 3))
    return Split(images, labels)


def augmented_epochs(split: Split, batch_size: int, epochs: range, kinds: tuple[str, ...], seed: int = 1) -> np.ndarray:
    """The augmented images of all `epochs`, in the order of the split; its labels are the indices of its images."""
    images, labels = zip(*train_batches(split, batch_size, seed, epochs, kinds), strict=True)
    order = np.concatenate([batch.numpy() for batch in labels]).reshape(len(epochs), -1).argsort(axis=1)
    stacked = np.concatenate([batch.numpy() for batch in images]).reshape(len(epochs), -1, *split.images.shape[1:])
    return np.stack([epoch[indices] for epoch, indices in zip(stacked, order, strict=True)])
