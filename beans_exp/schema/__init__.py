"""The typed configuration: every group with its rules, checked before TensorFlow is imported."""

from beans_exp.schema.combinations import Inert, check, inert_options, reduce, require_runnable
from beans_exp.schema.composed import checked_options, register, to_config
from beans_exp.schema.groups import (
    Config,
    ConfirmConfig,
    DataConfig,
    FeaturesConfig,
    FinetuneConfig,
    KernelConfig,
    ModelConfig,
    ObjectiveConfig,
    RegConfig,
    StudyConfig,
    SweepConfig,
    TrackingConfig,
    TrainerConfig,
)
from beans_exp.schema.shipped import CONF

__all__ = [
    "CONF",
    "Config",
    "ConfirmConfig",
    "DataConfig",
    "FeaturesConfig",
    "FinetuneConfig",
    "Inert",
    "KernelConfig",
    "ModelConfig",
    "ObjectiveConfig",
    "RegConfig",
    "StudyConfig",
    "SweepConfig",
    "TrackingConfig",
    "TrainerConfig",
    "check",
    "checked_options",
    "inert_options",
    "reduce",
    "register",
    "require_runnable",
    "to_config",
]
