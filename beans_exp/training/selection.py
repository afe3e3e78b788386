"""Decisions that follow from the validation accuracy of each epoch: the best weights, and when a stage stops."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from beans_exp.training.history import Epoch, History


@dataclass
class Patience:
    """Counts the epochs of a stage without improvement; `limit` of them exhaust it, None never does."""

    limit: int | None
    best: float = -math.inf
    """The highest validation accuracy of the stage so far."""
    stalled: int = 0
    """Epochs since then."""

    def update(self, accuracy: float) -> None:
        """Count an epoch with this validation accuracy."""
        self.stalled = 0 if accuracy > self.best else self.stalled + 1
        self.best = max(self.best, accuracy)

    @property
    def is_exhausted(self) -> bool:
        return self.limit is not None and self.stalled >= self.limit


@dataclass
class BestWeights:
    """The weights of the best epoch so far; None if the run ends with those of its last epoch."""

    weights: list | None = None

    def update(self, history: History, epoch: Epoch, get_weights: Callable[[], list]) -> None:
        """Keep the current weights if `epoch`, the last one of `history`, is the best and selected by that."""
        if history.select == "best" and history.best is epoch:
            self.weights = get_weights()
