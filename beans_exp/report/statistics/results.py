"""The material of every comparison: which test images each training of a configuration got right."""

from dataclasses import dataclass

import numpy as np

LEVEL = 0.95


@dataclass(frozen=True)
class Results:
    """Which test images a configuration got right: bool (seeds, images), a row for each of `seeds`."""

    seeds: tuple[int, ...]
    right: np.ndarray

    @property
    def accuracies(self) -> np.ndarray:
        """The test accuracy of each seed, float64 (seeds,)."""
        return self.right.mean(axis=1)
