"""The Keras callback of every stage: records epochs, keeps the best weights, saves checkpoints and stops stages."""

import math
import time
from collections.abc import Callable, Sequence

import keras
import numpy as np

from beans_exp.errors import DivergedError
from beans_exp.training.checkpoint import VARIABLE_GROUPS, Checkpoints, TrainingState
from beans_exp.training.history import Epoch, History, Stage
from beans_exp.training.selection import BestWeights, Patience


def variable_groups(model: keras.Model, fitted: keras.Model) -> dict[str, list]:
    """Return the variables that training changes, by group.

    `model` includes the random state of its dropout; `fitted` holds the variables of layers that are only trained.
    """
    excluded = {id(variable) for variable in [*model.variables, *fitted.metrics_variables]}
    others = [variable for variable in fitted.variables if id(variable) not in excluded]
    return {"model": model.variables, "fitted": others, "optimizer": fitted.optimizer.variables}


class TrainingCallback(keras.callbacks.Callback):
    """Joins history, patience, best weights and checkpoints to the epochs that Keras trains.

    `saved_model` is the model of the run; the one that Keras fits may hold further layers.
    """

    stage: Stage
    patience: Patience

    def __init__(
        self,
        saved_model: keras.Model,
        history: History,
        on_epoch: Callable[[Epoch], None],
        checkpoints: Checkpoints | None = None,
    ) -> None:
        super().__init__()
        self.saved_model = saved_model
        self.history = history
        self.on_epoch = on_epoch
        self.checkpoints = checkpoints
        self.best = BestWeights()
        self.restored: TrainingState | None = None
        self.has_unsaved_epoch = False

    def restore(self, state: TrainingState) -> None:
        """Restore epochs and weights from `state`; training resumes in its stage."""
        self.restored = state
        self.history.epochs += [
            Epoch(step, metrics, state.head_run if metrics["stage"] == 1 else "")
            for step, metrics in enumerate(state.epochs, start=1)
        ]
        self.history.features_costs |= state.features_costs
        self.best.weights = state.arrays["best"] or None
        for variable, value in zip(self.saved_model.variables, state.arrays["model"], strict=True):
            variable.assign(value)

    def begin_stage(self, stage: Stage, patience: int | None) -> bool:
        """Prepare for `stage` and return whether it has epochs left; each stage counts its own patience."""
        self.patience = Patience(patience)
        if self.restored and self.restored.stage > stage.number:
            return False
        if self.restored and self.restored.stage == stage.number:
            self.patience = Patience(patience, self.restored.stage_best, self.restored.stalled)
        self.stage = stage
        return len(self.remaining_epochs(stage)) > 0 and not self.patience.is_exhausted

    def remaining_epochs(self, stage: Stage) -> range:
        """Return the untrained epochs of `stage`, counted from 0 over all stages."""
        done = sum(epoch.metrics["stage"] == stage.number for epoch in self.history.epochs)
        trained = len(self.history.epochs)
        return range(trained, trained + stage.epochs - done)

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
        self.has_unsaved_epoch = True
        self.best.update(self.history, finished, self.saved_model.get_weights)
        self.patience.update(metrics["val/accuracy"])
        if self.patience.is_exhausted:
            self.model.stop_training = True
        self.on_epoch(finished)
        self._save_when_due()

    def state(self, groups: Sequence[str] = VARIABLE_GROUPS) -> TrainingState:
        """Return the state of training after the last epoch, with the variables of `groups` and the best weights."""
        variables = {name: group for name, group in self._variables().items() if name in groups}
        arrays = {name: [np.asarray(variable) for variable in variables.get(name, [])] for name in VARIABLE_GROUPS}
        arrays["best"] = self.best.weights or []
        epochs = [epoch.metrics for epoch in self.history.epochs]
        return TrainingState(
            self.stage.number,
            self.patience.best,
            self.patience.stalled,
            epochs,
            self.history.features_costs,
            arrays,
            self.history.head_run,
        )

    def save_last(self) -> None:
        """Save the last epoch without the optimizer: enough to test and save the model of an interrupted run."""
        if self.checkpoints and self.has_unsaved_epoch:
            self._save(["model"])

    def _save_when_due(self) -> None:
        numbers = sum(math.prod(variable.shape) for group in self._variables().values() for variable in group)
        if self.checkpoints and self.checkpoints.is_due(size=4 * numbers):
            self._save()

    def _save(self, groups: Sequence[str] = VARIABLE_GROUPS) -> None:
        assert self.checkpoints
        self.checkpoints.save(self.state(groups))
        self.has_unsaved_epoch = False

    def _variables(self) -> dict[str, list]:
        return variable_groups(self.saved_model, self.model)

    def _require_finite(self, value: float) -> None:
        if not math.isfinite(value):
            rate = f"{self.stage.learning_rate:g}"
            raise DivergedError(f"the loss became {value} in epoch {self.epoch + 1}. Try a rate below {rate}")


def _metric_names(logs: dict[str, float]) -> dict[str, float]:
    """Rename Keras' metrics: `val_accuracy` -> `val/accuracy`, `loss` -> `train/loss`."""
    named = {}
    for key, value in logs.items():
        split, name = ("val", key.removeprefix("val_")) if key.startswith("val_") else ("train", key)
        named[f"{split}/{name}"] = float(value)
    return named
