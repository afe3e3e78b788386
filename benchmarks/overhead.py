"""What `beans_exp` costs beside a bare Keras script: training time, the time beside it, peak memory.

Both train LeNet, each in a process of its own, in turn: product, bare, product, bare. The bare script (`train_bare`)
is what one would write without the project: the same layers, seed, optimizer, loss and batches of 64; validated each
epoch, tested, saved. It reads a copy of the product's resized uint8 images and holds them in memory, so it neither
decodes nor resizes. Both run in the same environment (TF_ENABLE_ONEDNN_OPTS=1, the product's default) and without XLA.
Not counted: a short run of the product before, which creates the store.

- training: the seconds from each epoch's begin to its end, with its validation, the first one with its tracing
- beside training: the process's wall time less training: start-up (to the first epoch), the time between epochs (where
  the product writes to MLflow), and the end (test, figures, saving, exit)
- peak memory: the largest resident memory of the whole process, as the kernel counts it
- data ready: two jobs' data loaded one after the other in one process, TensorFlow imported before

    python benchmarks/overhead.py                            # 20 epochs on beans, 10 to 20 minutes a pair on two cores
    python benchmarks/overhead.py --pairs 3                  # medians, and the spread
    python benchmarks/overhead.py --precision bfloat16       # of the product; the bare script stays in float32
    python benchmarks/overhead.py --product-only --epochs 2 --kernel wide --microbatch 16     # peak memory
    python benchmarks/overhead.py --data synthetic --epochs 2                                 # a look in a minute

Run it on an idle machine with Linux. Nothing is asserted: the figures are printed beside the project's goals.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

BATCH_SIZE = 64
SEED = 0
ENVIRONMENT = {"TF_ENABLE_ONEDNN_OPTS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "MLFLOW_DISABLE_TELEMETRY": "true"}
"""What the product sets where it is not set, here for every process."""
SPLITS = ("train", "validation", "test")
RESULT = "result.json"
"""Where a process that this program starts leaves its figures, in its folder."""
IMAGES = Path("../data")
"""The arrays that the bare script reads, seen from its folder."""


@dataclass(frozen=True)
class Process:
    """A process that has ended: its bounds in seconds since the epoch, and its peak memory."""

    launched: float
    exited: float
    peak_mb: float


@dataclass(frozen=True)
class Side:
    """One training, by the product or by the bare script; `begun` and `ended` bound its epochs."""

    process: Process
    begun: float
    ended: float
    epochs: list[float]
    """Seconds of each."""
    accuracy: float
    parameters: int
    logged: str = ""
    """What the product itself measured."""

    @property
    def wall(self) -> float:
        return self.process.exited - self.process.launched

    @property
    def training(self) -> float:
        return sum(self.epochs)


ROWS: list[tuple[str, Callable[[Side], float], str, str]] = [
    ("training, s", lambda side: side.training, ".2f", "ratio <= 1.05"),
    ("  median epoch, s", lambda side: median(side.epochs), ".3f", ""),
    ("beside training, s", lambda side: side.wall - side.training, ".2f", "< 15"),
    ("  start-up, s", lambda side: side.begun - side.process.launched, ".2f", ""),
    ("  between epochs, s", lambda side: max(0.0, side.ended - side.begun - side.training), ".2f", ""),
    ("  test, save, exit, s", lambda side: side.process.exited - side.ended, ".2f", ""),
    ("wall, s", lambda side: side.wall, ".2f", ""),
    ("peak memory, MB", lambda side: side.process.peak_mb, ".0f", "< 4000 (wide 5000)"),
    ("test accuracy", lambda side: side.accuracy, ".4f", "alike"),
]
"""Name, figure, format, goal."""


def main() -> None:
    options = parse(sys.argv[1:])
    if options.role == "data":
        load_twice(options.data)
    elif options.role == "bare":
        train_bare(options.epochs)
    else:
        os.environ.update(ENVIRONMENT | os.environ)
        with tempfile.TemporaryDirectory(prefix="overhead-") as temporary:
            compare(options, (options.folder or Path(temporary)).resolve())


def parse(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--pairs", type=int, default=1, help="how often product and bare script take turns")
    parser.add_argument("--data", choices=("beans", "synthetic"), default="beans")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32", help="of the product")
    parser.add_argument("--product-only", action="store_true", help="leave the bare script out")
    parser.add_argument("--kernel", default="k5", help="of the product, with --product-only")
    parser.add_argument("--microbatch", type=int, help="of the product, with --product-only")
    parser.add_argument("--folder", type=Path, help="where runs and models are kept (default: a temporary folder)")
    parser.add_argument("--role", choices=("data", "bare"), help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    if min(options.epochs, options.pairs) < 1:
        parser.error("--epochs and --pairs must be 1 or more")
    if (options.kernel != "k5" or options.microbatch) and not options.product_only:
        parser.error("--kernel and --microbatch need --product-only: the bare script has neither")
    return options


def compare(options: argparse.Namespace, folder: Path) -> None:
    say(f"{options.data}: data ready for the first and the second job of a grid")
    _, ready = run_role("data", folder / "data", f"--data={options.data}")
    say("product, a short run that is not counted")
    run_product(options, folder / "product", 1, "data.train_fraction=0.1")
    products, bares = [], []
    for number in range(1, options.pairs + 1):
        say(f"product, {number} of {options.pairs}: {options.epochs} epochs")
        products.append(run_product(options, folder / "product", options.epochs))
        if not options.product_only:
            say(f"bare script, {number} of {options.pairs}: {options.epochs} epochs")
            bares.append(run_bare(options.epochs, folder / "bare"))
    if len(counts := {side.parameters for side in products + bares}) > 1:
        sys.exit(f"the two sides train different networks: {counts} parameters")
    report(options, products, bares, ready)


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def run_process(words: Sequence[str], folder: Path) -> Process:
    """Run Python with `words` in `folder`, its output on stderr; stop the benchmark where it fails."""
    folder.mkdir(parents=True, exist_ok=True)
    launched = time.time()
    with subprocess.Popen([sys.executable, *words], cwd=folder, stdout=sys.stderr) as process:
        _, status, usage = os.wait4(process.pid, 0)
        exited = time.time()
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(words)} ended with {process.returncode}")
    return Process(launched, exited, usage.ru_maxrss * 1024 / 1e6)


def run_product(options: argparse.Namespace, folder: Path, epochs: int, *more: str) -> Side:
    words = [f"data={options.data}", f"trainer.epochs={epochs}", f"trainer.precision={options.precision}"]
    words += [f"trainer.batch_size={BATCH_SIZE}", f"seed={SEED}", f"kernel={options.kernel}", "if_exists=rerun", *more]
    if options.microbatch:
        words.append(f"trainer.microbatch={options.microbatch}")
    return read_newest_run(run_process(["-m", "beans_exp", *words], folder), folder)


def read_newest_run(process: Process, folder: Path) -> Side:
    import mlflow

    with contextlib.chdir(folder):  # MLflow makes a folder mlruns where it stands
        client = mlflow.MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")
        experiment = client.get_experiment_by_name("beans_exp")
        newest = ["attributes.start_time DESC"]
        run = client.search_runs([experiment.experiment_id], order_by=newest, max_results=1)[0]
        points = client.get_metric_history(run.info.run_id, "time/epoch_seconds")
    points.sort(key=lambda point: point.step)
    epochs = [point.value for point in points]
    metrics = run.data.metrics
    logged = ", ".join(f"{name} {metrics[name]:.1f}" for name in ("time/total_seconds", "memory/peak_rss_mb"))
    begun, ended = points[0].timestamp / 1000 - epochs[0], points[-1].timestamp / 1000
    return Side(process, begun, ended, epochs, metrics["test/accuracy"], int(metrics["model/parameters"]), logged)


def run_bare(epochs: int, folder: Path) -> Side:
    process, found = run_role("bare", folder, f"--epochs={epochs}")
    seconds = [end - begin for begin, end in zip(found["begins"], found["ends"], strict=True)]
    return Side(process, found["begins"][0], found["ends"][-1], seconds, found["accuracy"], found["parameters"])


def run_role(role: str, folder: Path, *words: str) -> tuple[Process, dict[str, Any]]:
    """Run this file as `role` in `folder`; return the process and what it left there."""
    process = run_process([str(Path(__file__).resolve()), f"--role={role}", *words], folder)
    return process, json.loads((folder / RESULT).read_text())


def load_twice(name: str) -> None:
    """Load the data set as two jobs of a grid do, write how long each waited, and copy it for the bare script."""
    import numpy as np
    import yaml

    import beans_exp.data.batches  # noqa: F401  TensorFlow's import is not the data's
    from beans_exp.data import load, source
    from beans_exp.schema import CONF, Config, DataConfig

    config = Config(data=DataConfig(**yaml.safe_load((CONF / "data" / f"{name}.yaml").read_text())))
    seconds = {}
    for job in ("first", "second"):
        started = time.perf_counter()
        data = load(config, source(config.data))
        seconds[job] = time.perf_counter() - started
    for name in SPLITS:
        np.save(f"{name}.images.npy", getattr(data, name).images)
        np.save(f"{name}.labels.npy", getattr(data, name).labels)
    Path(RESULT).write_text(json.dumps(seconds))


def train_bare(epochs: int) -> None:
    """The bare script: LeNet in plain Keras, trained, validated, tested and saved."""
    import keras
    import numpy as np
    import tensorflow as tf
    from keras import layers

    keras.utils.set_random_seed(SEED)

    def batches(split: str) -> tf.data.Dataset:
        arrays = [np.load(IMAGES / f"{split}.{part}.npy") for part in ("images", "labels")]
        dataset = tf.data.Dataset.from_tensor_slices(tuple(arrays))  # in memory: cache() would be a second copy
        if split == "train":
            dataset = dataset.shuffle(len(arrays[1]), seed=SEED)
        return dataset.batch(BATCH_SIZE).prefetch(tf.data.AUTOTUNE)

    train, validation, test = (batches(split) for split in SPLITS)
    model = keras.Sequential(
        [
            keras.Input(train.element_spec[0].shape[1:]),
            layers.Rescaling(1 / 255),
            layers.Conv2D(6, 5, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(16, 5, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(120, 5, activation="relu"),
            layers.Flatten(),
            layers.Dense(50, activation="relu"),
            layers.Dense(3),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.Adam(1e-3), loss=loss, metrics=["accuracy"], jit_compile=False)
    begins: list[float] = []
    ends: list[float] = []
    clock = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda *_: begins.append(time.time()), on_epoch_end=lambda *_: ends.append(time.time())
    )
    model.fit(train, validation_data=validation, epochs=epochs, callbacks=[clock], shuffle=False, verbose=2)
    accuracy = model.evaluate(test, verbose=0, return_dict=True)["accuracy"]
    model.save("model.keras")
    found = {"begins": begins, "ends": ends, "accuracy": accuracy, "parameters": model.count_params()}
    Path(RESULT).write_text(json.dumps(found))


def report(options: argparse.Namespace, products: Sequence[Side], bares: Sequence[Side], ready: dict[str, Any]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    title = f"LeNet ({options.kernel}) on {options.data}, {options.epochs} epochs, product in {options.precision}"
    goal = "goal" if options.data == "beans" else "goal on beans"
    table = Table(title=f"{title}, pairs: {options.pairs}", box=box.SIMPLE)
    for header in ("", "product", "bare", "ratio", goal):
        table.add_column(header, no_wrap=True)
    for name, figure, form, aim in ROWS:
        product, bare = [figure(side) for side in products], [figure(side) for side in bares]
        ratios = [mine / theirs for mine, theirs in zip(product, bare, strict=False) if theirs > 0.1]
        table.add_row(name, spread(product, form), spread(bare, form), spread(ratios, ".3f"), aim)
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(table)
    lines = (
        f"{products[0].parameters:,} parameters on each side",
        f"data ready: first job {ready['first']:.2f} s, second job {ready['second']:.2f} s (goal: under 2 s)",
        f"the last run says of itself: {products[-1].logged}",
        machine(),
    )
    console.print("\n".join(lines), highlight=False)


def spread(values: Sequence[float], form: str) -> str:
    """The median, and the bounds where there are several values."""
    if not values:
        return "-"
    bounds = f" ({min(values):{form}}-{max(values):{form}})" if len(values) > 1 else ""
    return f"{median(values):{form}}{bounds}"


def machine() -> str:
    from beans_exp.schema.precision import fast_flags

    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
    flags = ", ".join(fast_flags()) or "none"
    return f"CPU: {model}; bfloat16 flags: {flags}; threads: {len(os.sched_getaffinity(0))}"


if __name__ == "__main__":
    main()
