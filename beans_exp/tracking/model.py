"""The trained model in MLflow: Keras' own format, with its signature and its classes."""

import importlib.metadata

import keras
import mlflow
import numpy as np
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec

from beans_exp.data import Data
from beans_exp.models import savable_model


def log_model(model: keras.Model, data: Data) -> None:
    """Log `model` to the active run: raw images float32 (-1, S, S, 3) in 0..255 -> logits float32 (-1, classes)."""
    mlflow.keras.log_model(
        savable_model(model),
        name="model",
        signature=_signature(data),
        pip_requirements=[f"{name}=={importlib.metadata.version(name)}" for name in ("keras", "tensorflow", "mlflow")],
        metadata={"classes": list(data.classes), "image_size": data.image_size},
    )


def _signature(data: Data) -> ModelSignature:
    size, kind = data.image_size, np.dtype(np.float32)
    images = TensorSpec(kind, (-1, size, size, 3))
    logits = TensorSpec(kind, (-1, len(data.classes)))
    return ModelSignature(inputs=Schema([images]), outputs=Schema([logits]))
