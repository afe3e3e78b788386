"""The drawn leaves of `leaves` as a data set: offline, seeded, any size."""

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from beans_exp.data.leaf_classes import CLASSES, GENERATOR_VERSION, SMALLEST_SIZE
from beans_exp.data.source import SPLITS, Source, text_digest
from beans_exp.schema import DataConfig

if TYPE_CHECKING:
    import numpy as np


def synthetic_source(config: DataConfig) -> Source:
    """Describe the leaves that `config` asks for; they are drawn when read, and resized if smaller than the minimum."""
    counts = {split: getattr(config, f"{split}_images") for split in SPLITS}
    digest = text_digest((GENERATOR_VERSION, config.image_size, config.draw_seed, *counts.items()))
    read = partial(_read, counts, max(config.image_size, SMALLEST_SIZE), config.draw_seed or 0)
    return Source("synthetic", str(GENERATOR_VERSION), digest, CLASSES, read, counts)


def _read(counts: dict[str, int], size: int, seed: int, split: str) -> "Iterator[tuple[np.ndarray, int]]":
    from beans_exp.data.leaves import draw_split

    return draw_split(counts[split], size, seed, split)
