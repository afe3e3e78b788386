"""The table of a model's layers, as each stage trains them."""

import keras

from beans_exp.models import set_trainable
from beans_exp.models.cost import parameters
from beans_exp.schema import Config
from beans_exp.training.stages import stages


def model_summary(model: keras.Model, config: Config) -> str:
    """Return Keras' summary of `model` for each stage, headed by the numbers of trained and frozen parameters.

    The layers are set trainable for each stage in turn; training sets them again.
    """
    tables = []
    for stage in stages(config):
        set_trainable(model, config, stage.blocks)
        every, trained = parameters(model)
        lines = [f"stage {stage.number}: {trained:,} of {every:,} parameters trained, {every - trained:,} frozen"]
        model.summary(print_fn=lines.append, line_length=100, show_trainable=True)
        tables.append("\n".join(lines))
    return "\n\n".join(tables)
