"""How long the rest of a run will take, estimated from its epochs so far."""

from collections.abc import Iterable

from beans_exp.training.history import Epoch, Stage


class Pace:
    """Counts the epochs of a run's stages and estimates the time left."""

    def __init__(self, stages: Iterable[Stage]) -> None:
        self.epochs = {stage.number: stage.epochs for stage in stages}
        """Planned epochs by stage number."""
        self.seconds: dict[int, list[float]] = {number: [] for number in self.epochs}
        self.stage = min(self.epochs)

    def add(self, epoch: Epoch) -> None:
        """Count a trained epoch."""
        self.stage = int(epoch.metrics["stage"])
        self.seconds[self.stage].append(epoch.metrics["time/epoch_seconds"])

    @property
    def total_epochs(self) -> int:
        """Planned epochs of all stages."""
        return sum(self.epochs.values())

    @property
    def stage_epoch(self) -> int:
        """The number of the last epoch within its stage, from 1."""
        return len(self.seconds[self.stage])

    @property
    def seconds_left(self) -> float:
        """Seconds for the remaining epochs, those of later stages counted as if they took as long as this stage's.

        The fastest epoch of the stage counts, since a process's first epoch also builds the graph.
        """
        remaining = sum(epochs for number, epochs in self.epochs.items() if number >= self.stage) - self.stage_epoch
        return remaining * min(self.seconds[self.stage])
