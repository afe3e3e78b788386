"""The trained model in MLflow's Keras flavour, with its signature and its classes."""

import importlib.metadata
from pathlib import Path

import keras
import mlflow
import numpy as np
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec

from beans_exp.data import Data
from beans_exp.models import savable_model


def save_model(model: keras.Model, data: Data, folder: Path) -> None:
    """Save `model` to `folder`: raw images float32 (-1, S, S, 3) in 0..255 -> logits float32 (-1, classes)."""
    mlflow.keras.save_model(
        savable_model(model),
        str(folder),
        signature=_signature(data),
        pip_requirements=[f"{name}=={importlib.metadata.version(name)}" for name in ("keras", "tensorflow", "mlflow")],
        metadata={
            "classes": list(data.classes),
            "image_size": data.image_size,
            "pixels": data.pixels.as_metadata(),
        },
    )


def _signature(data: Data) -> ModelSignature:
    size, kind = data.image_size, np.dtype(np.float32)
    images = TensorSpec(kind, (-1, size, size, 3))
    logits = TensorSpec(kind, (-1, len(data.classes)))
    return ModelSignature(inputs=Schema([images]), outputs=Schema([logits]))
