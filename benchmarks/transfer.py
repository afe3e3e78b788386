"""Cost of the report's transfer table (frozen, top 2, 3, 6 blocks) compared with plain Keras and an arithmetic bound.

Each side runs in its own process, one after another, on the same resized images, weights, batches of 64 and
threads:

- product: one grid, starting with an empty cache of frozen layers
- notebook: a plain script after Keras' transfer-learning guide; each row trains its own head, as in the report
- careful: the same script, but the head is trained once, and all three tunings start from its weights
- bound: the multiply-adds that no implementation can avoid, at the rate of a 4096x4096 matrix product (the better of
  two measurements, right before and right after the product's process): one pass of every training and validation image
  through the base; per epoch, three times the part above the cut for each training image and once for each validation
  image; the same for one head on pooled features; one pass of the whole model for each row's test images

The plain scripts pass through the frozen layers in every epoch. They call `base(x, training=False)` as in the guide,
but Keras 3.15 passes the outer model's `training=True` to the base anyway: their BatchNorm above the cut uses batch
statistics, while the product's stays in inference mode. This hardly affects time, but accuracies after tuning are not
comparable. Neither are those of the heads: with a seed set, `fit` on arrays repeats the first epoch's batches in every
epoch.

With fewer epochs than the table's 20 and 6, the time of a side is extrapolated: (wall - epochs) + for each stage its
first epoch, and the median of its later epochs for the remaining ones. If a plain stage has only one epoch, its later
epochs are assumed to take that epoch minus the extra time of its first steps (tracing) over the median step. The
product does not report steps, so its only epoch is used unchanged.

    python benchmarks/transfer.py                           # product whole, scripts 2 and 1 epochs: 50 min on two cores
    python benchmarks/transfer.py --plain-head-epochs 20 --plain-tune-epochs 6        # nothing extrapolated: 4 hours
    python benchmarks/transfer.py --precision bfloat16 --only product                 # the product in both precisions
    python benchmarks/transfer.py --data synthetic --head-epochs 2 --tune-epochs 1    # a trial of a few minutes

Weights are those of BEANS_EXP_INCEPTION_WEIGHTS, else ImageNet's (synthetic: random ones). Run it on an idle Linux
machine with 6 GB free in the temporary folder (TMPDIR), or in the empty folder given by --folder. Nothing is asserted:
figures are printed beside the project's goals, which apply to beans.
"""

import argparse
import itertools
import math
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import measure
from benchmarks.measure import BATCH_SIZE, SPLITS, Process, log

HEAD_EPOCHS, TUNE_EPOCHS = 20, 6
"""Epochs of the whole table, and the same by stage."""
ALL_EPOCHS = {1: HEAD_EPOCHS, 2: TUNE_EPOCHS}
HEAD_RATE, TUNE_RATE = 1e-3, 1e-5
WEIGHTS = "BEANS_EXP_INCEPTION_WEIGHTS"
RANDOM_WEIGHTS = "random.weights.h5"
EXPERIMENT = "transfer"
PLAIN = ("notebook", "careful")
SIZES = {"beans": 299, "synthetic": 96}
MATRIX = 4096
ROWS = {"none": 0, "top2": 2, "top3": 3, "top6": 6}
"""The table's rows: options of `finetune`, with the number of blocks that each tunes."""
FIRST_LAYERS = {"top2": 249, "top3": 229, "top6": 133}
"""Index in `base.layers` of the first layer that is tuned."""


@dataclass(frozen=True)
class Stage:
    """A stage that was trained: 1 trains the head, 2 tunes."""

    row: str
    number: int
    seconds: list[float] = field(default_factory=list)
    """Seconds of each epoch with its validation."""
    warmup: float | None = None
    """Extra seconds of the first steps over the median step; None if unknown, as for the product."""

    @property
    def later(self) -> float:
        """Seconds of an epoch after the first."""
        return median(self.seconds[1:]) if self.seconds[1:] else self.seconds[0] - (self.warmup or 0)

    @property
    def whole(self) -> float:
        """Seconds of all epochs of the table; epochs that were not trained are extrapolated."""
        missing = ALL_EPOCHS[self.number] - len(self.seconds)
        return self.seconds[0] + (ALL_EPOCHS[self.number] - 1) * self.later if missing else sum(self.seconds)


@dataclass(frozen=True)
class Side:
    """One side's measurements of the table."""

    process: Process
    rates: tuple[float, float]
    """GFLOP/s of a matrix product in this side's precision, before and after its process."""
    stages: list[Stage]
    accuracy: dict[str, float]
    """Test accuracy by row."""
    trained: dict[str, int]
    """Parameters that the last stage trains, by row."""
    features_seconds: float = 0.0
    """Of the product's single pass through the frozen layers."""
    cache_gb: float = 0.0

    @property
    def outside(self) -> float:
        """Seconds outside epochs."""
        return self.process.wall - sum(sum(stage.seconds) for stage in self.stages)

    @property
    def table(self) -> float:
        """Seconds of the whole table."""
        return self.outside + sum(stage.whole for stage in self.stages)

    @property
    def frozen(self) -> float:
        """Seconds of the frozen row's epochs, and of the pass that they need."""
        return self.features_seconds + self.stages[0].whole

    @property
    def origin(self) -> str:
        """How the seconds of the whole table were obtained."""
        trained = {stage.number: len(stage.seconds) for stage in self.stages}
        if trained == ALL_EPOCHS:
            return "measured in full"
        origin = f"extrapolated from {trained[1]} of {HEAD_EPOCHS} and {trained[2]} of {TUNE_EPOCHS} epochs"
        traced = any(len(stage.seconds) == 1 and stage.warmup is None for stage in self.stages)
        return f"{origin}; where only one epoch ran, it is used with its tracing" if traced else origin

    def epoch(self, number: int, row: str | None = None) -> str:
        """Return the seconds of a first and of a later epoch, as medians over the stages of `number`."""
        stages = [stage for stage in self.stages if stage.number == number and row in (None, stage.row)]
        return f"{median(stage.seconds[0] for stage in stages):.2f}, {median(stage.later for stage in stages):.2f}"


FIGURES: list[tuple[str, Callable[[Side], str], str]] = [
    ("whole table, s", lambda side: f"{side.table:.0f}", ""),
    ("  process as run, s", lambda side: f"{side.process.wall:.0f}", ""),
    ("  whole table's epochs, s", lambda side: f"{side.table - side.outside:.0f}", ""),
    ("  outside epochs, s", lambda side: f"{side.outside:.0f}", ""),
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
        measure.write_result(play(options))
        return
    with measure.working_folder("transfer", options.folder) as folder:
        compare(options, folder)


def parse(words: Sequence[str]) -> argparse.Namespace:
    parser = measure.make_parser(__doc__)
    parser.add_argument("--head-epochs", type=int, default=HEAD_EPOCHS, help="of the product")
    parser.add_argument("--tune-epochs", type=int, default=TUNE_EPOCHS, help="of the product")
    parser.add_argument("--plain-head-epochs", type=int, default=2, help="of the plain scripts")
    parser.add_argument("--plain-tune-epochs", type=int, default=1, help="of the plain scripts")
    parser.add_argument("--data", choices=tuple(SIZES), default="beans")
    parser.add_argument("--image-size", type=int, help="default: 299 for beans, 96 for synthetic")
    precisions = ("float32", "bfloat16")
    parser.add_argument("--precision", choices=precisions, default="float32", help="bfloat16 runs the product in both")
    parser.add_argument("--only", nargs="+", choices=("product", *PLAIN), default=["product", *PLAIN])
    parser.add_argument("--folder", type=Path, help="folder for runs and models (default: a temporary one)")
    parser.add_argument("--role", choices=("data", "rate", *PLAIN), help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    options.image_size = options.image_size or SIZES[options.data]
    heads, tunings = {options.head_epochs, options.plain_head_epochs}, {options.tune_epochs, options.plain_tune_epochs}
    if not (heads <= set(range(1, HEAD_EPOCHS + 1)) and tunings <= set(range(1, TUNE_EPOCHS + 1))):
        parser.error(f"epochs must be 1 to {HEAD_EPOCHS} for a head, 1 to {TUNE_EPOCHS} for tuning")
    if options.image_size < 75:
        parser.error("--image-size must be 75 or more for Inception-v3")
    return options


def compare(options: argparse.Namespace, folder: Path) -> None:
    data = folder / measure.IMAGES.name
    if options.data == "synthetic":
        os.environ.setdefault(WEIGHTS, str(data / RANDOM_WEIGHTS))
    log(f"preparing images of {options.data} at {options.image_size}, counting multiply-adds")
    _, needed = run_role("data", data)
    sides: dict[str, Side] = {}
    _, rates = run_role("rate", folder / "rate")
    for name, precision in selected_sides(options):
        log(f"{name}: started")
        process, found = run_side(options, folder / name, precision)
        before = rates[precision]
        _, rates = run_role("rate", folder / "rate")
        sides[name] = Side(process, (before, rates[precision]), **found)
        log(f"{name}: {process.wall:.0f} s, peak memory {process.peak_mb:.0f} MB")
    report(options, sides, needed)


def selected_sides(options: argparse.Namespace) -> list[tuple[str, str]]:
    """Return the sides to run, in order, with the precision of each."""
    names = [("product", "float32")] + [(name, "float32") for name in PLAIN]
    if options.precision != "float32":
        names.insert(1, ("product-bf16", options.precision))
    return [(name, precision) for name, precision in names if name.partition("-")[0] in options.only]


def run_role(role: str, folder: Path) -> tuple[Process, dict[str, Any]]:
    """Run this file as `role` in `folder` with this process's options; return the process and its result."""
    return measure.run_role(__file__, role, folder, *sys.argv[1:])


def play(options: argparse.Namespace) -> dict[str, Any]:
    """Play the role that `options` name, and return its result."""
    if options.role == "data":
        return copy_data(options.data, options.image_size)
    if options.role == "rate":
        return {precision: matrix_rate(precision) for precision in {"float32", options.precision}}
    return train_plain(options.role == "notebook", options.plain_head_epochs, options.plain_tune_epochs)


def copy_data(name: str, image_size: int) -> dict[str, Any]:
    """Prepare the images once for all sides, copy them for the plain scripts; return the necessary multiply-adds."""
    import keras

    from beans_exp.data import load, source
    from beans_exp.schema import Config, ModelConfig

    weights = os.environ.get(WEIGHTS, "imagenet")
    if weights == str(Path.cwd() / RANDOM_WEIGHTS):
        base = keras.applications.InceptionV3(include_top=False, weights=None, input_shape=(image_size, image_size, 3))
        base.save_weights(RANDOM_WEIGHTS)
    model = ModelConfig("inception", weights=weights, top_block="mixed10")
    config = Config(model=model, data=measure.data_config(name, image_size=image_size))
    data = load(config, source(config.data))
    measure.save_arrays(data)
    return needed_multiply_adds(config, *(len(getattr(data, split)) for split in SPLITS))


def needed_multiply_adds(config: Any, train: int, validation: int, test: int) -> dict[str, int]:
    """Count the multiply-adds that the whole table cannot avoid, by purpose."""
    import keras

    from beans_exp.models import build_model
    from beans_exp.models.backbone import Cut, between, graph_above
    from beans_exp.models.cost import multiply_adds

    model = build_model(config, 3)

    def above(blocks: int) -> int:
        graph = graph_above(model, Cut.below(model, blocks))
        return multiply_adds(keras.Model(graph.inputs, graph.logits))

    base = multiply_adds(between(model, Cut("image"), Cut.below(model, 0)))
    epoch = 3 * train + validation
    tuned = {row: TUNE_EPOCHS * epoch * above(blocks) for row, blocks in ROWS.items() if blocks}
    needed = {"frozen pass": (train + validation) * base, "head": HEAD_EPOCHS * epoch * above(0)}
    return needed | tuned | {"tests": len(ROWS) * test * multiply_adds(model)}


def matrix_rate(precision: str) -> float:
    """Return the GFLOP/s of a large matrix product, the best of ten; a multiply-add is two operations."""
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
    process = measure.run_process(["-m", "beans_exp", "-m", *words], folder)
    size = sum(file.stat().st_size for file in cache.rglob("*") if file.is_file())
    found = read_runs(folder) | {"cache_gb": size / 1e9}
    return replace(process, peak_mb=max(process.peak_mb, found.pop("peak_mb"))), found


def read_runs(folder: Path) -> dict[str, Any]:
    """Return the metrics that the product logged, by the fields of `Side`."""
    from benchmarks.stores import search_runs, store_of  # not for the plain scripts: it imports the product

    with store_of(folder) as client:
        runs = {run.data.params["finetune.name"]: run for run in search_runs(client, EXPERIMENT) if run.data.params}
        stages = [stage for row in ROWS for stage in read_stages(client, runs[row], row)]
    metrics = {row: runs[row].data.metrics for row in ROWS}
    return {
        "stages": stages,
        "accuracy": {row: values["test/accuracy"] for row, values in metrics.items()},
        "trained": {row: int(values["model/trainable_parameters"]) for row, values in metrics.items()},
        "features_seconds": metrics["none"]["time/features_seconds"],
        # The jobs of a grid are not children of its process.
        "peak_mb": max(values["memory/peak_rss_mb"] for values in metrics.values()),
    }


def read_stages(client: Any, run: Any, row: str) -> list[Stage]:
    """Return the stages that `run` trained itself, without the epochs of a head that it reused from another run."""
    from beans_exp.tracking import tags

    numbers = {point.step: int(point.value) for point in client.get_metric_history(run.info.run_id, "stage")}
    points = client.get_metric_history(run.info.run_id, "time/epoch_seconds")
    seconds: dict[int, list[float]] = defaultdict(list)
    for point in sorted(points, key=lambda point: point.step):
        seconds[numbers[point.step]].append(point.value)
    reused = {1} if tags.HEAD_RUN in run.data.tags else set()
    return [Stage(row, number, values) for number, values in sorted(seconds.items()) if number not in reused]


def train_plain(notebook: bool, head_epochs: int, tune_epochs: int) -> dict[str, Any]:
    """The plain script: train, tune, test and save each row, with a head for each row or one for all."""
    import keras

    keras.utils.set_random_seed(0)
    data = {split: measure.load_arrays(split) for split in SPLITS}
    stages, accuracy, trained = [], {}, {}
    for row in ROWS:
        if notebook or row == "none":
            model, base = plain_model(data["train"][0].shape[1:])
            stages.append(fit_plain(model, data, Stage(row, 1), HEAD_RATE, head_epochs))
            head_weights = model.get_weights()
        if row != "none":
            model.set_weights(head_weights)
            base.trainable = True
            for index, layer in enumerate(base.layers):  # base.trainable does not propagate once it is True
                layer.trainable = index >= FIRST_LAYERS[row]
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
    x = base(x, training=False)  # ineffective from Keras 3.15 on, once layers are trainable: see above
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dense(1024)(x)
    return keras.Model(inputs, layers.Dense(3)(x)), base


def fit_plain(model: Any, data: dict[str, tuple], stage: Stage, rate: float, epochs: int) -> Stage:
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
    """Return callbacks that record the seconds of every epoch and every step in `seconds`."""
    began: dict[str, float] = {}

    def begin(period: str) -> None:
        began[period] = time.perf_counter()

    def end(period: str) -> None:
        seconds[period].append(time.perf_counter() - began[period])

    edges = itertools.product(("epoch", "train_batch", "test_batch"), (begin, end))
    return {f"on_{period}_{edge.__name__}": lambda *_, p=period, e=edge, **__: e(p) for period, edge in edges}


def report(options: argparse.Namespace, sides: dict[str, Side], needed: dict[str, float]) -> None:
    products = {name: side for name, side in sides.items() if name not in PLAIN}
    bounds = {name: 2 * sum(needed.values()) / 1e9 / max(side.rates) for name, side in products.items()}
    goal = "goal" if options.data == "beans" else "goal on beans"
    title = f"Inception-v3 on {options.data} at {options.image_size}: frozen, top 2, 3, 6"
    figures = [[name, *map(figure, sides.values()), aim] for name, figure, aim in FIGURES]
    columns = [ratios(sides, side, bounds[name]) for name, side in products.items()]
    rows = [[name, *values, aim] for (name, aim), *values in zip(GOALS.items(), *columns, strict=True)]
    measure.print_table(title, ["", *sides, goal], figures)
    if products:
        measure.print_table("ratios", ["", *products, goal], rows)
    print("\n".join([*notes(sides, needed, bounds), measure.machine()]))


def ratios(sides: dict[str, Side], product: Side, bound: float) -> list[str]:
    """Return the ratios in the order of `GOALS`, with a dash where a side was not run."""
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
    lines.append(f"necessary, 10^12 multiply-adds: {sum(needed.values()) / 1e12:.2f} ({parts})")
    lines += [f"arithmetic bound of {name}: {seconds:.0f} s" for name, seconds in bounds.items()]
    trained = {name: side.trained for name, side in sides.items()}
    if any(counts != next(iter(trained.values())) for counts in trained.values()):
        lines.append(f"WARNING: the sides train different parameters: {trained}")
    trap = "plain scripts: BatchNorm above the cut uses batch statistics, since Keras 3.15 lets the outer model's mode"
    return [*lines, trap, "override base(x, training=False); this affects accuracy (frozen, top 2, 3, 6), not time"]


if __name__ == "__main__":
    main()
