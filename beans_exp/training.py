"""Train a model in stages: set what is trainable, compile, fit, in that order."""

import gc
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import keras
import numpy as np
import tensorflow as tf

from beans_exp.checkpoint import Checkpoints, State
from beans_exp.data import Data
from beans_exp.data.batches import ordered_batches, train_batches
from beans_exp.errors import DivergedError
from beans_exp.features import frozen_features
from beans_exp.fitting import fitted_model
from beans_exp.models import set_trainable, training_graph
from beans_exp.regularization import loss
from beans_exp.schema import Config


@dataclass(frozen=True)
class Stage:
    """A part of training with one set of trainable layers and one optimizer."""

    number: int
    epochs: int
    learning_rate: float
    schedule: str = "constant"
    blocks: int = 0
    """Blocks of a pre-trained base that are trained with the head."""


@dataclass(frozen=True)
class Epoch:
    """A trained epoch: its step, counted from 1 over all stages, and its metrics by name."""

    step: int
    metrics: dict[str, float]


@dataclass
class History:
    """The epochs of a run so far."""

    select: str
    epochs: list[Epoch] = field(default_factory=list)
    features_costs: dict[str, float] = field(default_factory=dict)
    """Seconds that each entry of cached activations cost when it was made."""

    @property
    def best(self) -> Epoch:
        """The first epoch that reached the highest validation accuracy."""
        return max(self.epochs, key=lambda epoch: epoch.metrics["val/accuracy"])

    @property
    def selected(self) -> Epoch:
        """The epoch whose weights are tested and saved."""
        return self.best if self.select == "best" else self.epochs[-1]

    def summary(self) -> dict[str, float]:
        """The run's figures that follow from its epochs."""
        best, chosen = self.best, self.selected.metrics
        gap = chosen["train/accuracy"] - chosen["val/accuracy"]
        figures = {"best/val_accuracy": best.metrics["val/accuracy"], "best/epoch": best.step, "gap/accuracy": gap}
        costs = sum(self.features_costs.values())
        return figures | ({"time/features_seconds": costs} if costs else {})


def train(
    model: keras.Model,
    data: Data,
    config: Config,
    on_epoch: Callable[[Epoch], None],
    checkpoints: Checkpoints | None = None,
) -> History:
    """Train `model` in place and leave it with the weights of the selected epoch; `on_epoch` hears of each epoch.

    Goes on from the state in `checkpoints`, where one was found, and keeps its own there, the last epoch's at the end.
    Raises DivergedError when the loss becomes NaN or infinite.
    """
    state = checkpoints.take() if checkpoints else None
    history = History(config.trainer.select)
    watch = EpochWatch(model, history, on_epoch, checkpoints)
    if state is not None:
        watch.restore(state)
        for epoch in history.epochs:
            on_epoch(epoch)
    for stage in stages(config):
        if not watch.begin_stage(stage, config.trainer.patience):
            continue
        fit_stage(model, data, config, stage, watch, state if state and state.stage == stage.number else None)
    watch.keep_last()
    if watch.best_weights is not None:
        model.set_weights(watch.best_weights)
    return history


def stages(config: Config) -> Iterator[Stage]:
    """Yield the stages of a run in order: the head or the whole model, then the top blocks of a pre-trained base."""
    if config.trainer.epochs:
        yield Stage(1, config.trainer.epochs, config.trainer.learning_rate)
    finetune = config.finetune
    if finetune.blocks:
        yield Stage(2, finetune.epochs, finetune.learning_rate, finetune.schedule, finetune.blocks)


def fit_stage(
    model: keras.Model, data: Data, config: Config, stage: Stage, watch: "EpochWatch", state: State | None = None
) -> None:
    """Set what `stage` trains, compile with a fresh optimizer, and fit; epochs are counted on from those before.

    `state` is that of an epoch within this stage, from which to go on.
    """
    trainer = config.trainer
    steps = math.ceil(len(data.train) / trainer.batch_size)
    epochs = watch.epochs_left(stage)
    seed = (config.seed + stage.number) % 2**32
    keras.utils.set_random_seed(seed)  # a stage's new layers do not hang on whether this process trained those before
    features = frozen_features(model, data, config, stage.blocks)
    watch.history.features_costs |= features.costs if features else {}
    train = features.train if features else data.train
    validation = (features or data).validation
    set_trainable(model, config, stage.blocks)
    fitted = fitted_model(model, training_graph(model, config, stage.blocks, cached=bool(features)), config)
    fitted.compile(
        optimizer=stage_optimizer(trainer.optimizer, stage, steps),
        loss=loss(config.reg, len(data.classes)),
        metrics=["accuracy", keras.metrics.SparseCategoricalCrossentropy(from_logits=True, name="cross_entropy")],
        jit_compile=False,  # XLA was measured to be slower than plain TensorFlow on CPUs
    )
    if state is not None:
        set_variables(model, fitted, state)
    fitted.fit(
        train_batches(train, trainer.batch_size, config.seed, epochs, config.reg.augment),
        validation_data=ordered_batches(validation, trainer.microbatch or trainer.batch_size),
        initial_epoch=epochs.start,
        epochs=epochs.stop,
        steps_per_epoch=steps,
        callbacks=[watch],
        shuffle=False,  # the batches are shuffled already
        verbose=1 if sys.stdout.isatty() else 2,  # a bar, or in a log file a line an epoch
    )


def variables(model: keras.Model, fitted: keras.Model) -> dict[str, list]:
    """The variables that training changes: the model's (its dropout's random state too), and what is only fitted."""
    kept = {id(variable) for variable in [*model.variables, *fitted.metrics_variables]}
    others = [variable for variable in fitted.variables if id(variable) not in kept]
    return {"model": model.variables, "fitted": others, "optimizer": fitted.optimizer.variables}


def set_variables(model: keras.Model, fitted: keras.Model, state: State) -> None:
    """Put the values in `state` into the variables of a stage that was just compiled."""
    fitted.optimizer.build(fitted.trainable_variables)
    for name, found in variables(model, fitted).items():
        for variable, value in zip(found, state.arrays[name], strict=True):
            variable.assign(value)


def stage_optimizer(name: str, stage: Stage, steps: int) -> keras.optimizers.Optimizer:
    """Return a fresh optimizer of Keras' `name` at the rate of `stage`; a cosine falls to 0 at its last step."""
    rate = stage.learning_rate
    if stage.schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(rate, stage.epochs * steps)
    return keras.optimizers.get({"class_name": name, "config": {"learning_rate": rate}})


class EpochWatch(keras.callbacks.Callback):
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
        self.history.epochs += [Epoch(step, metrics) for step, metrics in enumerate(state.epochs, start=1)]
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
        """Keep the last epoch's state, from which the run can be tested and saved again."""
        if self.checkpoints and self.unkept:
            self._keep()

    def _keep(self) -> None:
        arrays = {name: [np.asarray(variable) for variable in part] for name, part in self._variables().items()}
        epochs = [epoch.metrics for epoch in self.history.epochs]
        arrays["best"] = self.best_weights or []
        costs = self.history.features_costs
        assert self.checkpoints
        self.checkpoints.save(State(self.stage.number, self.stage_best, self.stalled, epochs, costs, arrays))
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


def configure(config: Config) -> None:
    """Set Keras' and TensorFlow's global state for one run: seeds, number format, determinism.

    The seed decides initial weights and dropout; with `trainer.deterministic` equal seeds give bit-equal weights on
    CPU.
    """
    keras.backend.clear_session()
    gc.collect()  # the model and the optimizer of an earlier job in this process
    keras.config.set_dtype_policy({"float32": "float32", "bfloat16": "mixed_bfloat16"}[config.trainer.precision])
    keras.utils.set_random_seed(config.seed)
    if config.trainer.deterministic:
        tf.config.experimental.enable_op_determinism()
