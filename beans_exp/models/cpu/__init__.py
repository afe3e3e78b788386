"""Faster convolutions on CPUs, an optional extra of `models.inception`.

Without this folder, its import and its one call there, every result stays the same up to rounding.
"""

import keras

from beans_exp.models.cpu.batch_norm import fold_batch_norm
from beans_exp.models.cpu.conv_gradients import speed_up_kernel_gradients


def speed_up(base: keras.Model, *, is_frozen: bool) -> None:
    """Speed up the convolutions of `base`; `is_frozen` also folds its BatchNorm layers into them."""
    speed_up_kernel_gradients(base)
    if is_frozen:
        fold_batch_norm(base)
