"""Train a model in stages: set the trainable layers, compile, fit, in that order."""

import gc
import math
import sys
from collections.abc import Callable, Iterator

import keras
import tensorflow as tf

from beans_exp.data import Data
from beans_exp.data.batches import ordered_batches, train_batches
from beans_exp.models import set_trainable, training_graph
from beans_exp.models.regularization import loss
from beans_exp.schema import Config
from beans_exp.training.callback import TrainingCallback, variable_groups
from beans_exp.training.checkpoint import Checkpoints, TrainingState
from beans_exp.training.feature_cache import frozen_features
from beans_exp.training.head_cache import CachedHead
from beans_exp.training.history import Epoch, History, Stage
from beans_exp.training.optimizer import stage_optimizer
from beans_exp.training.training_model import training_model


def train(
    model: keras.Model,
    data: Data,
    config: Config,
    on_epoch: Callable[[Epoch], None],
    checkpoints: Checkpoints | None = None,
) -> History:
    """Train `model` in place, ending with the weights of the selected epoch; `on_epoch` is called for each epoch.

    Training resumes from the state in `checkpoints`, if there is one, and saves its own states there, at last that of
    the last epoch. A cached head of an equal first stage is reused.
    Raises DivergedError when the loss becomes NaN or infinite.
    """
    head = CachedHead.for_run(config, data)
    state = (checkpoints.take() if checkpoints else None) or (head.load(model) if head else None)
    history = History(config.trainer.select)
    callback = TrainingCallback(model, history, on_epoch, checkpoints)
    if state is not None:
        callback.restore(state)
        for epoch in history.epochs:
            on_epoch(epoch)
    for stage in stages(config):
        if not callback.begin_stage(stage, config.trainer.patience):
            set_trainable(model, config, stage.blocks)  # for the count of trainable parameters
            continue
        fit_stage(model, data, config, stage, callback, state if state and state.stage == stage.number else None)
        if stage.number == 1 and head:
            head.save(model, callback.state(["model"]), checkpoints.run_id if checkpoints else "")
    callback.save_last()
    if callback.best.weights is not None:
        model.set_weights(callback.best.weights)
    return history


def stages(config: Config) -> Iterator[Stage]:
    """Yield the stages of a run in order: the head or the whole model, then the top blocks of a pre-trained base."""
    if config.trainer.epochs:
        yield Stage(1, config.trainer.epochs, config.trainer.learning_rate)
    finetune = config.finetune
    if finetune.blocks:
        yield Stage(2, finetune.epochs, finetune.learning_rate, finetune.schedule, finetune.blocks)


def fit_stage(
    model: keras.Model,
    data: Data,
    config: Config,
    stage: Stage,
    callback: TrainingCallback,
    state: TrainingState | None = None,
) -> None:
    """Set the trainable layers of `stage`, compile with a new optimizer, and fit the epochs that are left of it.

    A `state` within this stage is restored first.
    """
    trainer = config.trainer
    steps = math.ceil(len(data.train) / trainer.batch_size)
    epochs = callback.remaining_epochs(stage)
    seed = (config.seed + stage.number) % 2**32
    keras.utils.set_random_seed(seed)  # new layers of a stage must not depend on the stages trained in this process
    features = frozen_features(model, data, config, stage.blocks)
    callback.history.features_costs |= features.costs if features else {}
    train = features.train if features else data.train
    validation = (features or data).validation
    set_trainable(model, config, stage.blocks)
    fitted = training_model(model, training_graph(model, config, stage.blocks, cached=bool(features)), config)
    _compile(fitted, config, stage, steps, classes=len(data.classes))
    if state is not None:
        set_variables(model, fitted, state)
    fitted.fit(
        train_batches(train, trainer.batch_size, config.seed, epochs, config.reg.augment),
        validation_data=ordered_batches(validation, trainer.microbatch or trainer.batch_size),
        initial_epoch=epochs.start,
        epochs=epochs.stop,
        steps_per_epoch=steps,
        callbacks=[callback],
        shuffle=False,  # the batches are shuffled already
        verbose=1 if sys.stdout.isatty() else 2,  # a bar, or one line per epoch in a log file
    )


def _compile(fitted: keras.Model, config: Config, stage: Stage, steps: int, classes: int) -> None:
    fitted.compile(
        optimizer=stage_optimizer(config.trainer.optimizer, stage, steps),
        loss=loss(config.reg, classes),
        metrics=[
            keras.metrics.SparseCategoricalAccuracy(name="accuracy"),  # by its name, a step would be traced twice
            keras.metrics.SparseCategoricalCrossentropy(from_logits=True, name="cross_entropy"),
        ],
        jit_compile=False,  # XLA was measured to be slower than plain TensorFlow on CPUs
    )
    fitted.optimizer.build(fitted.trainable_variables)  # else the first step would be traced twice


def set_variables(model: keras.Model, fitted: keras.Model, state: TrainingState) -> None:
    """Assign the values in `state` to the variables of a stage that was just compiled."""
    for name, group in variable_groups(model, fitted).items():
        for variable, value in zip(group, state.arrays[name], strict=True):
            variable.assign(value)


def configure(config: Config) -> None:
    """Set the global state of Keras and TensorFlow for one run: seeds, number format, determinism.

    The seed determines initial weights and dropout; with `trainer.deterministic`, equal seeds give bit-equal weights on
    CPUs.
    """
    keras.backend.clear_session()
    gc.collect()  # drops the model and optimizer of an earlier job in this process
    keras.config.set_dtype_policy({"float32": "float32", "bfloat16": "mixed_bfloat16"}[config.trainer.precision])
    keras.utils.set_random_seed(config.seed)
    if config.trainer.deterministic:
        tf.config.experimental.enable_op_determinism()
