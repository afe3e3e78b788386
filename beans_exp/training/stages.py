"""Train a model in stages: set what is trainable, compile, fit, in that order."""

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
from beans_exp.training.callback import TrainingCallback, variables
from beans_exp.training.checkpoint import Checkpoints, State
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
    """Train `model` in place and leave it with the weights of the selected epoch; `on_epoch` hears of each epoch.

    Goes on from the state in `checkpoints`, where one was found, and keeps its own there, the last epoch's at the end;
    a head that an equal first stage gave is not trained again.
    Raises DivergedError when the loss becomes NaN or infinite.
    """
    head = CachedHead.of(config, data)
    state = (checkpoints.take() if checkpoints else None) or (head.read(model) if head else None)
    history = History(config.trainer.select)
    watch = TrainingCallback(model, history, on_epoch, checkpoints)
    if state is not None:
        watch.restore(state)
        for epoch in history.epochs:
            on_epoch(epoch)
    for stage in stages(config):
        if not watch.begin_stage(stage, config.trainer.patience):
            set_trainable(model, config, stage.blocks)  # what it trained is counted
            continue
        fit_stage(model, data, config, stage, watch, state if state and state.stage == stage.number else None)
        if stage.number == 1 and head:
            head.keep(model, watch.state(["model"]), checkpoints.run_id if checkpoints else "")
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
    model: keras.Model, data: Data, config: Config, stage: Stage, watch: TrainingCallback, state: State | None = None
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
    fitted = training_model(model, training_graph(model, config, stage.blocks, cached=bool(features)), config)
    fitted.compile(
        optimizer=stage_optimizer(trainer.optimizer, stage, steps),
        loss=loss(config.reg, len(data.classes)),
        metrics=[
            keras.metrics.SparseCategoricalAccuracy(name="accuracy"),  # by its name alone, a step would be traced twice
            keras.metrics.SparseCategoricalCrossentropy(from_logits=True, name="cross_entropy"),
        ],
        jit_compile=False,  # XLA was measured to be slower than plain TensorFlow on CPUs
    )
    fitted.optimizer.build(fitted.trainable_variables)  # within the first step it would be traced
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


def set_variables(model: keras.Model, fitted: keras.Model, state: State) -> None:
    """Put the values in `state` into the variables of a stage that was just compiled."""
    for name, found in variables(model, fitted).items():
        for variable, value in zip(found, state.arrays[name], strict=True):
            variable.assign(value)


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
