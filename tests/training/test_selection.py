"""Patience and best weights: plain objects, without Keras."""

import pytest

from beans_exp.training.history import Epoch, History
from beans_exp.training.selection import BestWeights, Patience


def _exhausted_after(limit: int | None, accuracies: list[float]) -> int | None:
    """The number of epochs after which patience is exhausted."""
    patience = Patience(limit)
    for count, accuracy in enumerate(accuracies, start=1):
        patience.update(accuracy)
        if patience.is_exhausted:
            return count
    return None


@pytest.mark.parametrize(
    ("limit", "accuracies", "epochs"),
    [
        (2, [0.5, 0.5, 0.5, 0.9], 3),
        (2, [0.5, 0.4, 0.6, 0.6, 0.1], 5),
        (2, [0.5, 0.6, 0.7], None),
        (1, [0.5, 0.4], 2),
        (None, [0.5] * 9, None),
    ],
)
def test_patience_counts_the_epochs_without_improvement(
    limit: int | None, accuracies: list[float], epochs: int | None
) -> None:
    assert _exhausted_after(limit, accuracies) == epochs


def test_restored_patience_counts_on() -> None:
    patience = Patience(2, best=0.5, stalled=1)
    assert not patience.is_exhausted
    patience.update(0.5)
    assert (patience.is_exhausted, patience.best, patience.stalled) == (True, 0.5, 2)
    assert Patience(2, best=0.5, stalled=2).is_exhausted


@pytest.mark.parametrize(("select", "kept"), [("best", [2]), ("last", None)])
def test_the_weights_of_the_first_best_epoch_are_kept(select: str, kept: list[int] | None) -> None:
    history, best = History(select), BestWeights()
    for step, accuracy in enumerate([0.5, 0.8, 0.8, 0.6], start=1):
        epoch = Epoch(step, {"val/accuracy": accuracy})
        history.epochs.append(epoch)
        best.update(history, epoch, lambda: [history.epochs[-1].step])
    assert best.weights == kept


def test_restored_weights_stay_until_an_epoch_is_better() -> None:
    history, best = History("best", [Epoch(1, {"val/accuracy": 0.7})]), BestWeights([1])
    for step, accuracy in ((2, 0.7), (3, 0.8)):
        history.epochs.append(epoch := Epoch(step, {"val/accuracy": accuracy}))
        best.update(history, epoch, lambda: [history.epochs[-1].step])
        assert best.weights == ([1] if step == 2 else [3])
