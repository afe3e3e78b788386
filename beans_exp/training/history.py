"""Stages, their epochs, and the metrics of a run that follow from them."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Stage:
    """A part of training with one set of trainable layers and one optimizer."""

    number: int
    epochs: int
    learning_rate: float
    schedule: str = "constant"
    blocks: int = 0
    """Number of blocks of a pre-trained base that are trained with the head."""


@dataclass(frozen=True)
class Epoch:
    """A trained epoch: its step, counted from 1 over all stages, and its metrics."""

    step: int
    metrics: dict[str, float]
    head_run: str = ""
    """The run that trained it, if it belongs to a reused head."""


@dataclass
class History:
    """The epochs of a run so far."""

    select: str
    epochs: list[Epoch] = field(default_factory=list)
    features_costs: dict[str, float] = field(default_factory=dict)
    """Seconds that each entry of cached activations took to compute."""

    @property
    def head_run(self) -> str:
        """The run that trained the head, if it was another one."""
        return self.epochs[0].head_run if self.epochs else ""

    @property
    def best(self) -> Epoch:
        """The first epoch with the highest validation accuracy."""
        return max(self.epochs, key=lambda epoch: epoch.metrics["val/accuracy"])

    @property
    def selected(self) -> Epoch:
        """The epoch whose weights are tested and saved."""
        return self.best if self.select == "best" else self.epochs[-1]

    def summary(self) -> dict[str, float]:
        """Return the metrics of the run that follow from its epochs."""
        best, chosen = self.best, self.selected.metrics
        gap = chosen["train/accuracy"] - chosen["val/accuracy"]
        metrics = {"best/val_accuracy": best.metrics["val/accuracy"], "best/epoch": best.step, "gap/accuracy": gap}
        costs = sum(self.features_costs.values())
        return metrics | ({"time/features_seconds": costs} if costs else {})
