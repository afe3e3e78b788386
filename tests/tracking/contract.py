"""The smallest run, everything that a run logs, and the runs in a store."""

import mlflow
from mlflow.entities import Run

from beans_exp.metrics import BY_NAME
from beans_exp.schema import Config, DataConfig, KernelConfig, RegConfig, TrainerConfig
from beans_exp.tracking.store import store_uri

CLASSES = ["angular_leaf_spot", "bean_rust", "healthy"]
CONFIG = Config(
    data=DataConfig(name="synthetic", image_size=32, train_images=12, validation_images=6, test_images=6, draw_seed=0),
    kernel=KernelConfig(filters=[2, 2, 4]),
    reg=RegConfig(name="l2", l2=0.01),
    trainer=TrainerConfig(epochs=2, batch_size=8),
    seed=3,
)
METRICS = set(BY_NAME) - {"time/features_seconds"}
"""Every metric of a run without frozen layers."""
ARTIFACTS = {
    "config.yaml",
    "overrides.yaml",
    "curves.png",
    "confusion_matrix.png",
    "predictions.csv",
    "model_summary.txt",
}


def runs_of(client: mlflow.MlflowClient, experiment: str) -> list[Run]:
    """The runs of `experiment`, the newest first."""
    found = client.get_experiment_by_name(experiment)
    return list(client.search_runs([found.experiment_id])) if found else []


def local_runs(config: Config = CONFIG) -> list[Run]:
    """The runs in the store of `config`, the newest first."""
    return runs_of(mlflow.MlflowClient(store_uri(config.tracking)), config.tracking.experiment)
