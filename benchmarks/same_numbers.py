"""Difference between training with and without the cache of frozen layers, compared with that of rounding alone.

One seed, the real data and weights (BEANS_EXP_INCEPTION_WEIGHTS, else ImageNet's). A head is trained with and without
the cache; then, for each depth, its blocks are tuned, each side from its own head. The yardstick is two trainings
without the cache, one of them with its activations at the cut multiplied by 1 + 1e-7 * noise. The effect of a cache of
half the size: a training without the cache whose activations at the cut are rounded to float16.

    python benchmarks/same_numbers.py                # a quarter of the images in batches of 16: a few minutes a depth
    python benchmarks/same_numbers.py --data synthetic --image-size 96 --blocks 2
    python benchmarks/same_numbers.py --data synthetic --image-size 96 --blocks 2 --arch ResNet50 VGG16

With `--arch`, bases of keras.applications have random weights, which are saved to a file first, and each tuned model is
saved, loaded and compared, too.

Printed for each: the largest difference between logits of the validation images. Nothing is asserted.
"""

import argparse
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np

from beans_exp.startup.imports import quiet_libraries
from benchmarks import measure

quiet_libraries()

import keras  # noqa: E402

from beans_exp.data import Data, load, source  # noqa: E402
from beans_exp.models import build_model, savable_model  # noqa: E402
from beans_exp.models.backbone import Cut, between, graph_above  # noqa: E402
from beans_exp.models.graph import Graph  # noqa: E402
from beans_exp.schema import (  # noqa: E402
    Config,
    FeaturesConfig,
    FinetuneConfig,
    ModelConfig,
    TrainerConfig,
)
from beans_exp.training import stages as training  # noqa: E402
from beans_exp.training.callback import TrainingCallback  # noqa: E402
from beans_exp.training.evaluation import Evaluation, evaluate  # noqa: E402
from beans_exp.training.history import History  # noqa: E402

EPSILON = 1e-7
Change = Callable[[keras.KerasTensor], keras.KerasTensor]


def main() -> None:
    """Train all sides and print their differences."""
    parser = measure.make_parser(__doc__)
    parser.add_argument("--data", choices=("beans", "synthetic"), default="beans")
    parser.add_argument("--image-size", type=int, default=299)
    parser.add_argument("--fraction", type=float, default=0.25, help="of the training images")
    parser.add_argument("--head-epochs", type=int, default=2)
    parser.add_argument("--blocks", type=int, nargs="+", default=[2, 3, 6])
    parser.add_argument("--arch", nargs="+", default=[], help="classes of keras.applications, not Inception-v3")
    options = parser.parse_args()
    with measure.working_folder("same_numbers") as folder:
        for arch in options.arch:
            print(arch, flush=True)
            compare(random_base(arch, options.image_size, folder), options)
    if not options.arch:
        weights = os.environ.get("BEANS_EXP_INCEPTION_WEIGHTS", "imagenet")
        compare(ModelConfig("inception", weights, "mixed10"), options)


def random_base(arch: str, size: int, folder: Path) -> ModelConfig:
    """Return a base with random weights, which are saved in `folder`."""
    file = folder / f"{arch}.weights.h5"
    keras.utils.set_random_seed(0)
    function = getattr(keras.applications, arch)
    function(include_top=False, weights=None, input_shape=(size, size, 3)).save_weights(file)
    return ModelConfig(arch.lower(), str(file), arch=arch)


def compare(model: ModelConfig, options: argparse.Namespace) -> None:
    """Train all sides of a model and print their differences."""
    config = Config(
        model=model,
        data=measure.data_config(options.data, image_size=options.image_size, train_fraction=options.fraction),
        trainer=TrainerConfig(epochs=options.head_epochs, batch_size=16),
    )
    data = load(config, source(config.data))
    heads = {cache: Trained(config, data, cache) for cache in ("auto", "off")}
    cached, plain = (head.evaluated() for head in heads.values())
    probabilities = difference(cached.probabilities, plain.probabilities)
    logits = difference(cached.logits, plain.logits)
    print(f"frozen: probabilities {probabilities:.1e}, logits before stage 2 {logits:.1e}")
    for blocks in options.blocks:
        uncached = heads["off"].tuned(blocks).logits
        others = {
            "with the cache": heads["auto"].tuned(blocks),
            f"disturbed by {EPSILON:g}": heads["off"].tuned(blocks, disturbed),
            "rounded to float16": heads["off"].tuned(blocks, rounded),
        }
        differences = [f"{name} {difference(tuned.logits, uncached):.1e}" for name, tuned in others.items()]
        print(f"after stage 2, {blocks} blocks, compared with no cache: {', '.join(differences)}", flush=True)
    again = difference(heads["off"].loaded().logits, heads["off"].evaluated().logits)
    print(f"saved and loaded: {again:.1e}", flush=True)


class Trained:
    """A model whose head was trained with `cache`."""

    def __init__(self, config: Config, data: Data, cache: str) -> None:
        self.config = replace(config, features=FeaturesConfig(cache=cache))
        self.data = data
        training.configure(self.config)
        self.model = build_model(self.config, len(data.classes))
        training.train(self.model, data, self.config, lambda epoch: None)
        self.head = self.model.get_weights()

    def evaluated(self) -> Evaluation:
        """Return the current results on the validation images."""
        return evaluate(self.model, self.data.validation, self.config)

    def loaded(self) -> Evaluation:
        """Return the results of the model once saved and loaded."""
        with measure.working_folder("same_numbers") as folder:
            savable_model(self.model).save(folder / "model.keras")
            loaded = keras.saving.load_model(folder / "model.keras", safe_mode=True)
        return evaluate(loaded, self.data.validation, self.config)

    def tuned(self, blocks: int, change: Change | None = None) -> Evaluation:
        """Return the results after stage 2, which starts from the trained head; `change` is applied at the cut."""
        self.model.set_weights(self.head)
        config = replace(self.config, finetune=FinetuneConfig(blocks=blocks, epochs=1))
        *_, stage = training.stages(config)
        callback = TrainingCallback(self.model, History("last"), lambda epoch: None)
        callback.begin_stage(stage, None)
        with changed_graph(change) if change else nullcontext():
            training.fit_stage(self.model, self.data, config, stage, callback)
        return self.evaluated()


def disturbed(activations: keras.KerasTensor) -> keras.KerasTensor:
    factors = 1 + EPSILON * np.random.default_rng(0).standard_normal(activations.shape[1:])
    return activations * keras.ops.cast(factors, "float32")


def rounded(activations: keras.KerasTensor) -> keras.KerasTensor:
    return keras.ops.cast(keras.ops.cast(activations, "float16"), "float32")


def changed_graph(change: Change) -> AbstractContextManager:
    """Within this context, a stage fits a graph that includes the frozen layers, with `change` applied at the cut."""

    def graph(model: keras.Model, config: Config, blocks: int, cached: bool) -> Graph:
        cut = Cut.below(model, blocks)
        above = graph_above(model, cut)
        below = between(model, Cut("image"), cut)
        return Graph(below.input, keras.Model(above.inputs, above.logits)(change(below.output)))

    return patch.object(training, "training_graph", graph)


def difference(left: np.ndarray, right: np.ndarray) -> float:
    return float(np.abs(left - right).max())


if __name__ == "__main__":
    main()
