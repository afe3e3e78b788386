"""A store with a trained run, and the output of commands that read it."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from PIL import Image

from beans_exp.data import load, source
from beans_exp.predict import main
from beans_exp.run import run
from beans_exp.schema import Config, DataConfig, KernelConfig, TrackingConfig, TrainerConfig

SIZE = 32
CLASSES = ["angular_leaf_spot", "bean_rust", "healthy"]


@dataclass(frozen=True)
class Store:
    """A store with a trained run, and the images that it was tested on as files."""

    folder: Path
    uri: str
    client: mlflow.MlflowClient
    config: Config
    run_id: str
    images: Path

    def model_id(self) -> str:
        return str(self.client.get_run(self.run_id).outputs.model_outputs[0].model_id)

    def run_with(self, tags: dict[str, str]) -> str:
        """The id of a new run without a model."""
        experiment = self.client.get_run(self.run_id).info.experiment_id
        return str(self.client.create_run(experiment, tags=tags).info.run_id)


def trained_store(folder: Path) -> Store:
    """Train a run in the empty `folder`, and write its test images to files."""
    uri = f"sqlite:///{folder}/mlruns/mlflow.db"
    config = Config(
        data=DataConfig(
            name="synthetic",
            image_size=SIZE,
            cache_dir=str(folder / "cache"),
            train_images=12,
            validation_images=6,
            test_images=6,
            draw_seed=0,
        ),
        kernel=KernelConfig(filters=[2, 2, 4]),
        trainer=TrainerConfig(epochs=1, batch_size=8),
        tracking=TrackingConfig(uri=uri, experiment="predict"),
    )
    run(config)
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name("predict")
    assert experiment is not None
    (done,) = client.search_runs([experiment.experiment_id])
    (folder / "images").mkdir()
    for number, image in enumerate(load(config, source(config.data)).test.images):
        Image.fromarray(np.asarray(image)).save(folder / "images" / f"{number}.png")
    return Store(folder, uri, client, config, done.info.run_id, folder / "images")


Output = pytest.CaptureFixture[str]


def json_lines(output: Output) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.readouterr().out.splitlines()]


def error_of(words: list[str], output: Output, command: Callable[[list[str]], int] = main) -> str:
    """Return the one-line error that ends the command."""
    with pytest.raises(SystemExit) as ended:
        command(words)
    assert ended.value.code == 1
    printed = output.readouterr()
    assert printed.out == ""
    (message,) = printed.err.splitlines()
    assert message.startswith("error: ")
    return str(message)
