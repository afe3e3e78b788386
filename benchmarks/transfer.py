"""What the report's transfer table costs (frozen, top 2, 3 and 6 blocks), beside plain Keras and plain arithmetic.

One run, the same resized images, weights, batches of 64 and threads, each side a process of its own, one after another:

- product: one grid, with a cache of frozen layers that is empty at its start
- notebook: a plain script after Keras' transfer-learning guide; each row trains a head of its own, as the report did
- careful: the same script with one head, trained once; its weights are kept, and three tunings start from them
- bound: the multiply-adds that no implementation can leave out, at the rate of a 4096x4096 matrix product, the better
  one of those measured right before and right after the product's process: one pass of every training and validation
  image through the base, three times the part above the cut for a training image of an epoch and once for a validation
  image, the same for one head on pooled features, one pass of the whole model for each row's test images

The plain scripts pass the frozen layers in every epoch. They call `base(x, training=False)` as the guide does; Keras
3.15 hands the outer model's `training=True` to the base all the same, so their BatchNorm above the cut uses batch
statistics where the product's stays in inference mode. It costs them no time to speak of, but after tuning the
accuracies are not those of the same training. Nor are the heads': once a seed is set, `fit` on arrays repeats the
first epoch's batches in every epoch.

With fewer epochs than the table's 20 and 6, a side's time is extrapolated: (wall - epochs) + for each stage its first
epoch and, for the others, the median of those after the first. Where a plain stage has one epoch, a later one is taken
to be that one less what its first steps (tracing) took longer than the median step; the product does not tell, so its
only epoch stands for the others as it is.

    python benchmarks/transfer.py                           # product whole, scripts 2 and 1 epochs: 50 min on two cores
    python benchmarks/transfer.py --plain-head-epochs 20 --plain-tune-epochs 6        # nothing extrapolated: 4 hours
    python benchmarks/transfer.py --precision bfloat16 --only product                 # the product in both precisions
    python benchmarks/transfer.py --data synthetic --head-epochs 2 --tune-epochs 1    # a look in a few minutes

Weights are those of BEANS_EXP_INCEPTION_WEIGHTS, else ImageNet's (synthetic: random ones). Run it on an idle machine
with Linux and 6 GB in the folder for temporary files (TMPDIR), or in the empty one that --folder names. Nothing is
asserted: the figures are printed beside the project's goals, which are for beans.
"""

import argparse
import contextlib
import itertools
import json
import math
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.overhead import BATCH_SIZE, ENVIRONMENT, IMAGES, RESULT, SPLITS, Process, machine, run_process, say

HEAD_EPOCHS, TUNE_EPOCHS = 20, 6
"""Of the whole table."""
FULL = {1: HEAD_EPOCHS, 2: TUNE_EPOCHS}
HEAD_RATE, TUNE_RATE = 1e-3, 1e-5
WEIGHTS = "BEANS_EXP_INCEPTION_WEIGHTS"
RANDOM_WEIGHTS = "random.weights.h5"
EXPERIMENT = "transfer"
PLAIN = ("notebook", "careful")
SIZES = {"beans": 299, "synthetic": 96}
MATRIX = 4096
ROWS = {"none": 0, "top2": 2, "top3": 3, "top6": 6}
"""The table's rows: options of `finetune`, and the blocks that each tunes."""
FIRST_LAYERS = {"top2": 249, "top3": 229, "top6": 133}
"""Where the tuned part begins in `base.layers`."""


@dataclass(frozen=True)
class Stage:
    """A stage as it was trained: 1 trains the head, 2 tunes."""

    row: str
    number: int
    seconds: list[float] = field(default_factory=list)
    """Of each epoch, with its validation."""
    warmup: float | None = None
    """What the first steps took longer than the median step; None: not known, as of the product."""

    @property
    def later(self) -> float:
        """The seconds of an epoch after the first."""
        return median(self.seconds[1:]) if self.seconds[1:] else self.seconds[0] - (self.warmup or 0)

    @property
    def whole(self) -> float:
        """The seconds of all epochs that the table has; those that were not trained are extrapolated."""
        missing = FULL[self.number] - len(self.seconds)
        return self.seconds[0] + (FULL[self.number] - 1) * self.later if missing else sum(self.seconds)


@dataclass(frozen=True)
class Side:
    """The table as one side made it."""

    process: Process
    rates: tuple[float, float]
    """GFLOP/s of a matrix product in this side's precision, before and after."""
    stages: list[Stage]
    accuracy: dict[str, float]
    """On test, by row, as the parameters below."""
    trained: dict[str, int]
    """Parameters that the row's last stage trains."""
    features_seconds: float = 0.0
    """The product's one pass through the frozen layers."""
    cache_gb: float = 0.0

    @property
    def wall(self) -> float:
        return self.process.exited - self.process.launched

    @property
    def beside(self) -> float:
        return self.wall - sum(sum(stage.seconds) for stage in self.stages)

    @property
    def table(self) -> float:
        """The seconds of the whole table."""
        return self.beside + sum(stage.whole for stage in self.stages)

    @property
    def frozen(self) -> float:
        """The seconds of the frozen row's epochs, and of the pass that they need."""
        return self.features_seconds + self.stages[0].whole

    @property
    def origin(self) -> str:
        """How the seconds of the whole table were found."""
        trained = {stage.number: len(stage.seconds) for stage in self.stages}
        if trained == FULL:
            return "measured whole"
        way = f"extrapolated from {trained[1]} of {HEAD_EPOCHS} and {trained[2]} of {TUNE_EPOCHS} epochs"
        traced = any(len(stage.seconds) == 1 and stage.warmup is None for stage in self.stages)
        return f"{way}; an only epoch counted for each, its tracing too" if traced else way

    def epoch(self, number: int, row: str | None = None) -> str:
        """The first epoch and a later one, the medians over the stages of `number`."""
        alike = [stage for stage in self.stages if stage.number == number and row in (None, stage.row)]
        return f"{median(stage.seconds[0] for stage in alike):.2f}, {median(stage.later for stage in alike):.2f}"


FIGURES: list[tuple[str, Callable[[Side], str], str]] = [
    ("whole table, s", lambda side: f"{side.table:.0f}", ""),
    ("  process as it ran, s", lambda side: f"{side.wall:.0f}", ""),
    ("  whole table's epochs, s", lambda side: f"{side.table - side.beside:.0f}", ""),
    ("  beside epochs, s", lambda side: f"{side.beside:.0f}", ""),
    ("one frozen pass, s", lambda side: f"{side.features_seconds:.1f}" if side.features_seconds else "-", ""),
    ("head epoch, first, later, s", lambda side: side.epoch(1), ""),
    ("top2 epoch, first, later, s", lambda side: side.epoch(2, "top2"), ""),
    ("top3 epoch, first, later, s", lambda side: side.epoch(2, "top3"), ""),
    ("top6 epoch, first, later, s", lambda side: side.epoch(2, "top6"), ""),
    ("frozen stage, 20 epochs, s", lambda side: f"{side.frozen:.1f}", ""),
    ("peak memory, MB", lambda side: f"{side.process.peak_mb:.0f}", "product < 4000"),
    ("cache on disk, GB", lambda side: f"{side.cache_gb:.2f}" if side.cache_gb else "-", "< 3"),
    ("test accuracy", lambda side: " ".join(f"{value:.2f}" for value in side.accuracy.values()), ""),
    ("matrix product, GFLOP/s", lambda side: "{:.0f}, {:.0f}".format(*side.rates), ""),
]
"""Name, figure, goal."""
GOALS = {
    "product / arithmetic bound": "<= 1.3",
    "notebook / product": ">= 7",
    "careful / product": ">= 3.2",
    "frozen stage, plain / product": ">= 12",
    "product in float32 / in bfloat16": ">= 1.6 (AMX), 1.4 (AVX512-BF16)",
}


def main() -> None:
    options = parse(sys.argv[1:])
    if options.role:
        play(options)
        return
    os.environ.update(ENVIRONMENT | os.environ)
    with tempfile.TemporaryDirectory(prefix="transfer-") as temporary:
        compare(options, (options.folder or Path(temporary)).resolve())


def parse(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--head-epochs", type=int, default=HEAD_EPOCHS, help="of the product")
    parser.add_argument("--tune-epochs", type=int, default=TUNE_EPOCHS, help="of the product")
    parser.add_argument("--plain-head-epochs", type=int, default=2, help="of the plain scripts")
    parser.add_argument("--plain-tune-epochs", type=int, default=1, help="of the plain scripts")
    parser.add_argument("--data", choices=tuple(SIZES), default="beans")
    parser.add_argument("--image-size", type=int, help="default: 299 for beans, 96 for synthetic")
    precisions = ("float32", "bfloat16")
    parser.add_argument("--precision", choices=precisions, default="float32", help="bfloat16: the product in both")
    parser.add_argument("--only", nargs="+", choices=("product", *PLAIN), default=["product", *PLAIN])
    parser.add_argument("--folder", type=Path, help="where runs and models are kept (default: a temporary folder)")
    parser.add_argument("--role", choices=("data", "rate", *PLAIN), help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    options.image_size = options.image_size or SIZES[options.data]
    heads, tunings = {options.head_epochs, options.plain_head_epochs}, {options.tune_epochs, options.plain_tune_epochs}
    if not (heads <= set(range(1, HEAD_EPOCHS + 1)) and tunings <= set(range(1, TUNE_EPOCHS + 1))):
        parser.error(f"epochs of a head are 1 to {HEAD_EPOCHS}, of tuning 1 to {TUNE_EPOCHS}")
    if options.image_size < 75:
        parser.error("--image-size must be 75 or more for Inception-v3")
    return options


def compare(options: argparse.Namespace, folder: Path) -> None:
    data = folder / IMAGES.name
    if options.data == "synthetic":
        os.environ.setdefault(WEIGHTS, str(data / RANDOM_WEIGHTS))
    say(f"images of {options.data} at {options.image_size}, and what the table needs at least")
    _, needed = run_role("data", data)
    sides: dict[str, Side] = {}
    _, rates = run_role("rate", folder / "rate")
    for name, precision in wanted(options):
        say(f"{name}: started")
        process, found = run_side(options, folder / name, precision)
        before = rates[precision]
        _, rates = run_role("rate", folder / "rate")
        sides[name] = Side(process, (before, rates[precision]), **found)
        say(f"{name}: {sides[name].wall:.0f} s, peak memory {process.peak_mb:.0f} MB")
    report(options, sides, needed)


def wanted(options: argparse.Namespace) -> list[tuple[str, str]]:
    """The sides to run, in order, and the precision of each."""
    names = [("product", "float32")] + [(name, "float32") for name in PLAIN]
    if options.precision != "float32":
        names.insert(1, ("product-bf16", options.precision))
    return [(name, precision) for name, precision in names if name.partition("-")[0] in options.only]


def run_role(role: str, folder: Path) -> tuple[Process, dict[str, Any]]:
    """Run this file as `role` in `folder`, with this process's options; return the process and what it left there."""
    process = run_process([str(Path(__file__).resolve()), *sys.argv[1:], f"--role={role}"], folder)
    return process, json.loads((folder / RESULT).read_text())


def play(options: argparse.Namespace) -> None:
    """Be one of the processes that this program starts, and leave what was found in its folder."""
    if options.role == "data":
        found = copy_data(options.data, options.image_size)
    elif options.role == "rate":
        found = {precision: matrix_rate(precision) for precision in {"float32", options.precision}}
    else:
        found = train_plain(options.role == "notebook", options.plain_head_epochs, options.plain_tune_epochs)
    Path(RESULT).write_text(json.dumps(found))


def copy_data(name: str, image_size: int) -> dict[str, Any]:
    """Prepare the images for all sides alike, copy them for the plain scripts; return what the table needs."""
    import keras
    import numpy as np
    import yaml

    from beans_exp.data import load, source
    from beans_exp.schema import CONF, Config, DataConfig, ModelConfig

    weights = os.environ.get(WEIGHTS, "imagenet")
    if weights == str(Path.cwd() / RANDOM_WEIGHTS):
        base = keras.applications.InceptionV3(include_top=False, weights=None, input_shape=(image_size, image_size, 3))
        base.save_weights(RANDOM_WEIGHTS)
    values = yaml.safe_load((CONF / "data" / f"{name}.yaml").read_text()) | {"image_size": image_size}
    model = ModelConfig("inception", weights=weights, top_block="mixed10")
    config = Config(model=model, data=DataConfig(**values))
    data = load(config, source(config.data))
    for split in SPLITS:
        np.save(f"{split}.images.npy", getattr(data, split).images)
        np.save(f"{split}.labels.npy", getattr(data, split).labels)
    return needed_multiply_adds(config, *(len(getattr(data, split)) for split in SPLITS))


def needed_multiply_adds(config: Any, train: int, validation: int, test: int) -> dict[str, int]:
    """Count the multiply-adds that the whole table cannot do without, by what they are for."""
    import keras

    from beans_exp.models import build_model
    from beans_exp.models.backbone import Cut, between, graph_above
    from beans_exp.models.cost import multiply_adds

    model = build_model(config, 3)

    def above(blocks: int) -> int:
        graph, _ = graph_above(model, Cut.below(config.model, blocks))
        return multiply_adds(keras.Model(graph.inputs, graph.logits))

    base = multiply_adds(between(model, Cut("image"), Cut.below(config.model, 0)))
    epoch = 3 * train + validation
    tuned = {row: TUNE_EPOCHS * epoch * above(blocks) for row, blocks in ROWS.items() if blocks}
    needed = {"frozen pass": (train + validation) * base, "head": HEAD_EPOCHS * epoch * above(0)}
    return needed | tuned | {"tests": len(ROWS) * test * multiply_adds(model)}


def matrix_rate(precision: str) -> float:
    """The GFLOP/s of a large matrix product, the best of ten; a multiply-add is two operations."""
    import tensorflow as tf

    left, right = (tf.cast(tf.random.normal((MATRIX, MATRIX)), precision) for _ in range(2))
    seconds = []
    for _ in range(10):
        started = time.perf_counter()
        tf.matmul(left, right)[0, 0].numpy()
        seconds.append(time.perf_counter() - started)
    return 2 * MATRIX**3 / min(seconds) / 1e9


def run_side(options: argparse.Namespace, folder: Path, precision: str) -> tuple[Process, dict[str, Any]]:
    if not folder.name.startswith("product"):
        process, found = run_role(folder.name, folder)
        return process, found | {"stages": [Stage(**stage) for stage in found["stages"]]}
    cache = folder / "features"
    words = ["model=inception", f"finetune={','.join(ROWS)}", f"data={options.data}"]
    words += [f"data.image_size={options.image_size}", f"trainer.epochs={options.head_epochs}", "seed=0"]
    words += [f"finetune.epochs={options.tune_epochs}", f"finetune.learning_rate={TUNE_RATE}"]
    words += [f"trainer.learning_rate={HEAD_RATE}", f"trainer.batch_size={BATCH_SIZE}"]
    words += [f"trainer.precision={precision}", f"features.dir='{cache}'"]
    words += [f"tracking.experiment={EXPERIMENT}"]
    process = run_process(["-m", "beans_exp", "-m", *words], folder)
    size = sum(file.stat().st_size for file in cache.rglob("*") if file.is_file())
    found = read_runs(folder) | {"cache_gb": size / 1e9}
    return replace(process, peak_mb=max(process.peak_mb, found.pop("peak_mb"))), found


def read_runs(folder: Path) -> dict[str, Any]:
    """What the product logged of its runs, in the fields of `Side`."""
    import mlflow

    with contextlib.chdir(folder):  # MLflow makes a folder mlruns where it stands
        client = mlflow.MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")
        found = client.search_runs([client.get_experiment_by_name(EXPERIMENT).experiment_id])
        runs = {run.data.params["finetune.name"]: run for run in found if run.data.params}
        stages = [stage for row in ROWS for stage in read_stages(client, runs[row], row)]
    metrics = {row: runs[row].data.metrics for row in ROWS}
    return {
        "stages": stages,
        "accuracy": {row: values["test/accuracy"] for row, values in metrics.items()},
        "trained": {row: int(values["model/trainable_parameters"]) for row, values in metrics.items()},
        "features_seconds": metrics["none"]["time/features_seconds"],
        # Jobs are no children of the process that was started.
        "peak_mb": max(values["memory/peak_rss_mb"] for values in metrics.values()),
    }


def read_stages(client: Any, run: Any, row: str) -> list[Stage]:
    """The stages that `run` trained itself: the epochs of a head that it took are another run's."""
    numbers = {point.step: int(point.value) for point in client.get_metric_history(run.info.run_id, "stage")}
    points = client.get_metric_history(run.info.run_id, "time/epoch_seconds")
    seconds: dict[int, list[float]] = defaultdict(list)
    for point in sorted(points, key=lambda point: point.step):
        seconds[numbers[point.step]].append(point.value)
    taken = {1} if "beans.head_run" in run.data.tags else set()
    return [Stage(row, number, values) for number, values in sorted(seconds.items()) if number not in taken]


def train_plain(notebook: bool, head_epochs: int, tune_epochs: int) -> dict[str, Any]:
    """The plain script: train, tune, test and save each row; a head for each, or the first one's for all."""
    import keras
    import numpy as np

    keras.utils.set_random_seed(0)
    data = {split: [np.load(IMAGES / f"{split}.{part}.npy") for part in ("images", "labels")] for split in SPLITS}
    stages, accuracy, trained = [], {}, {}
    for row in ROWS:
        if notebook or row == "none":
            model, base = plain_model(data["train"][0].shape[1:])
            stages.append(fit_plain(model, data, Stage(row, 1), HEAD_RATE, head_epochs))
            kept = model.get_weights()
        if row != "none":
            model.set_weights(kept)
            base.trainable = True
            for place, layer in enumerate(base.layers):  # each one: a flag that is True already reaches none of them
                layer.trainable = place >= FIRST_LAYERS[row]
            stages.append(fit_plain(model, data, Stage(row, 2), TUNE_RATE, tune_epochs))
        test = model.evaluate(*data["test"], batch_size=BATCH_SIZE, verbose=0, return_dict=True)
        accuracy[row] = test["accuracy"]
        trained[row] = sum(math.prod(weight.shape) for weight in model.trainable_weights)
        model.save(f"{row}.keras")
    return {"stages": [asdict(stage) for stage in stages], "accuracy": accuracy, "trained": trained}


def plain_model(shape: tuple[int, ...]) -> tuple[Any, Any]:
    import keras
    from keras import layers

    weights = os.environ.get(WEIGHTS, "imagenet")
    base = keras.applications.InceptionV3(weights=weights, include_top=False, input_shape=shape)
    base.trainable = False
    inputs = keras.Input(shape)
    x = layers.Rescaling(1 / 127.5, offset=-1)(inputs)
    x = base(x, training=False)  # in vain from Keras 3.15 on, once its layers are trainable: see above
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dense(1024)(x)
    return keras.Model(inputs, layers.Dense(3)(x)), base


def fit_plain(model: Any, data: dict[str, list], stage: Stage, rate: float, epochs: int) -> Stage:
    import keras

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.Adam(rate), loss=loss, metrics=["accuracy"])
    seconds: dict[str, list[float]] = defaultdict(list)
    print(f"{stage.row}, stage {stage.number}", flush=True)
    model.fit(
        *data["train"],
        batch_size=BATCH_SIZE,
        epochs=epochs,
        validation_data=data["validation"],
        callbacks=[keras.callbacks.LambdaCallback(**clock(seconds))],
        verbose=2,
    )
    warmup = sum(seconds[step][0] - median(seconds[step]) for step in ("train_batch", "test_batch"))
    return replace(stage, seconds=seconds["epoch"], warmup=warmup)


def clock(seconds: dict[str, list[float]]) -> dict[str, Callable[..., None]]:
    """Callbacks that write down the seconds of every epoch and of every step."""
    began: dict[str, float] = {}

    def begin(what: str) -> None:
        began[what] = time.perf_counter()

    def end(what: str) -> None:
        seconds[what].append(time.perf_counter() - began[what])

    edges = itertools.product(("epoch", "train_batch", "test_batch"), (begin, end))
    return {f"on_{what}_{edge.__name__}": lambda *_, w=what, e=edge, **__: e(w) for what, edge in edges}


def report(options: argparse.Namespace, sides: dict[str, Side], needed: dict[str, float]) -> None:
    from rich.console import Console

    products = {name: side for name, side in sides.items() if name not in PLAIN}
    bounds = {name: 2 * sum(needed.values()) / 1e9 / max(side.rates) for name, side in products.items()}
    goal = "goal" if options.data == "beans" else "goal on beans"
    title = f"Inception-v3 on {options.data} at {options.image_size}: frozen, top 2, 3, 6"
    figures = [[name, *map(figure, sides.values()), aim] for name, figure, aim in FIGURES]
    columns = [ratios(sides, side, bounds[name]) for name, side in products.items()]
    rows = [[name, *values, aim] for (name, aim), *values in zip(GOALS.items(), *columns, strict=True)]
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(text_table(title, ["", *sides, goal], figures))
    if products:
        console.print(text_table("ratios", ["", *products, goal], [*rows]))
    console.print("\n".join([*notes(sides, needed, bounds), machine()]), highlight=False)


def text_table(title: str, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> Any:
    from rich import box
    from rich.table import Column, Table

    table = Table(Column(headers[0], no_wrap=True), *headers[1:], title=title, box=box.SIMPLE)
    for row in rows:
        table.add_row(*row)
    return table


def ratios(sides: dict[str, Side], product: Side, bound: float) -> list[str]:
    """The figures for `GOALS`, in their order; a dash where a side was not run."""
    notebook, careful, float32 = (sides.get(name) for name in (*PLAIN, "product"))
    head = notebook or careful
    found = [
        product.table / bound,
        notebook and notebook.table / product.table,
        careful and careful.table / product.table,
        head and head.frozen / product.frozen,
        float32 and float32 is not product and float32.table / product.table,
    ]
    return [f"{value:.2f}" if value else "-" for value in found]


def notes(sides: dict[str, Side], needed: dict[str, float], bounds: dict[str, float]) -> list[str]:
    lines = [f"{name}: {side.origin}" for name, side in sides.items()]
    parts = ", ".join(f"{name} {count / 1e12:.2f}" for name, count in needed.items())
    lines.append(f"needed at least, 10^12 multiply-adds: {sum(needed.values()) / 1e12:.2f} ({parts})")
    lines += [f"arithmetic bound of {name}: {seconds:.0f} s" for name, seconds in bounds.items()]
    trained = {name: side.trained for name, side in sides.items()}
    if any(counts != next(iter(trained.values())) for counts in trained.values()):
        lines.append(f"WARNING: the sides train different parameters: {trained}")
    trap = "plain scripts: BatchNorm above the cut uses batch statistics, for in Keras 3.15 the outer model's mode wins"
    return [*lines, trap, "over base(x, training=False); this matters for accuracy (frozen, top 2, 3, 6), not for time"]


if __name__ == "__main__":
    main()
