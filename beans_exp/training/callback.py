"""What hears of every batch and epoch while a model is fitted, and decides what is kept and when it is over."""

import math
import time
from collections.abc import Callable, Sequence

import keras
import numpy as np

from beans_exp.errors import DivergedError
from beans_exp.training.checkpoint import PARTS, Checkpoints, State
from beans_exp.training.history import Epoch, History, Stage


def variables(model: keras.Model, fitted: keras.Model) -> dict[str, list]:
    """The variables that training changes: the model's (its dropout's random state too), and what is only fitted."""
    kept = {id(variable) for variable in [*model.variables, *fitted.metrics_variables]}
    others = [variable for variable in fitted.variables if id(variable) not in kept]
    return {"model": model.variables, "fitted": others, "optimizer": fitted.optimizer.variables}


class TrainingCallback(keras.callbacks.Callback):
    """Hears of every batch and epoch: records metrics, keeps the best weights and checkpoints, stops what is over."""

    stage: Stage

    def __init__(
        self,
        trained: keras.Model,
        history: History,
        on_epoch: Callable[[Epoch], None],
        checkpoints: Checkpoints | None = None,
    ) -> None:
        super().__init__()
        self.trained = trained
        self.history = history
        self.on_epoch = on_epoch
        self.checkpoints = checkpoints
        self.best_weights: list | None = None
        self.found: State | None = None
        self.unkept = False
        """Whether an epoch was trained since the last checkpoint."""

    def restore(self, state: State) -> None:
        """Take over the epochs and the weights of `state`; its stage is gone on with when it begins."""
        self.found = state
        self.history.epochs += [
            Epoch(step, metrics, state.head_run if metrics["stage"] == 1 else "")
            for step, metrics in enumerate(state.epochs, start=1)
        ]
        self.history.features_costs |= state.features_costs
        self.best_weights = state.arrays["best"] or None
        for variable, value in zip(self.trained.variables, state.arrays["model"], strict=True):
            variable.assign(value)

    def begin_stage(self, stage: Stage, patience: int | None) -> bool:
        """Prepare for `stage` and return whether it has epochs left; patience is counted anew in each."""
        found = self.found if self.found and self.found.stage == stage.number else None
        self.stage_best = found.stage_best if found else -math.inf
        self.stalled = found.stalled if found else 0
        self.patience = patience
        if self.found and self.found.stage > stage.number:
            return False
        self.stage = stage
        return len(self.epochs_left(stage)) > 0 and not self.is_stalled

    def epochs_left(self, stage: Stage) -> range:
        """The epochs of `stage` that are not trained yet, counted from 0 over all stages."""
        done = sum(epoch.metrics["stage"] == stage.number for epoch in self.history.epochs)
        trained = len(self.history.epochs)
        return range(trained, trained + stage.epochs - done)

    @property
    def is_stalled(self) -> bool:
        """Whether patience is at its end."""
        return self.patience is not None and self.stalled >= self.patience

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.epoch = epoch
        self.started = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self._require_finite((logs or {})["loss"])

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        metrics = _metric_names(logs or {})
        self._require_finite(metrics["val/loss"])
        metrics |= {"time/epoch_seconds": time.perf_counter() - self.started, "stage": self.stage.number}
        finished = Epoch(epoch + 1, metrics)
        self.history.epochs.append(finished)
        self.unkept = True
        if self.history.select == "best" and self.history.best is finished:
            self.best_weights = self.trained.get_weights()
        self._stop_when_stalled(metrics["val/accuracy"])
        self.on_epoch(finished)
        self._keep_when_due()

    def _keep_when_due(self) -> None:
        numbers = sum(math.prod(variable.shape) for part in self._variables().values() for variable in part)
        if self.checkpoints and self.checkpoints.due(size=4 * numbers):
            self._keep()

    def keep_last(self) -> None:
        """Keep the last epoch's state, from which the run can be tested and saved again; no optimizer goes on."""
        if self.checkpoints and self.unkept:
            self._keep(["model"])

    def state(self, parts: Sequence[str] = PARTS) -> State:
        """Where training stands after the last epoch; of the variables, those that belong to `parts`."""
        found = {name: variables for name, variables in self._variables().items() if name in parts}
        arrays = {name: [np.asarray(variable) for variable in found.get(name, [])] for name in PARTS}
        epochs = [epoch.metrics for epoch in self.history.epochs]
        arrays["best"] = self.best_weights or []
        costs, head_run = self.history.features_costs, self.history.head_run
        return State(self.stage.number, self.stage_best, self.stalled, epochs, costs, arrays, head_run)

    def _keep(self, parts: Sequence[str] = PARTS) -> None:
        assert self.checkpoints
        self.checkpoints.save(self.state(parts))
        self.unkept = False

    def _variables(self) -> dict[str, list]:
        return variables(self.trained, self.model)

    def _require_finite(self, value: float) -> None:
        if not math.isfinite(value):
            rate = f"{self.stage.learning_rate:g}"
            raise DivergedError(f"the loss became {value} in epoch {self.epoch + 1}. Try a rate below {rate}")

    def _stop_when_stalled(self, accuracy: float) -> None:
        improved = accuracy > self.stage_best
        self.stage_best = max(self.stage_best, accuracy)
        self.stalled = 0 if improved else self.stalled + 1
        if self.is_stalled:
            self.model.stop_training = True


def _metric_names(logs: dict[str, float]) -> dict[str, float]:
    """Keras' names as ours: `val_accuracy` -> `val/accuracy`, `loss` -> `train/loss`."""
    named = {}
    for key, value in logs.items():
        part, name = ("val", key.removeprefix("val_")) if key.startswith("val_") else ("train", key)
        named[f"{part}/{name}"] = float(value)
    return named
