"""Cost of `beans_exp` compared with a bare Keras script: training time, time outside training, peak memory.

Both train LeNet, each in its own process, alternating: product, bare, product, bare. The bare script (`train_bare`) is
the same training without the project: the same layers, seed, optimizer, loss and batches of 64; validated each epoch,
tested, saved. It reads a copy of the product's resized uint8 images and holds them in memory, so it neither decodes nor
resizes. Both run in the same environment (TF_ENABLE_ONEDNN_OPTS=1, the product's default) and without XLA.
Not counted: a short run of the product at the start, which creates the store.

- training: the epochs with their validation; the first one includes tracing
- outside training: wall time of the process minus training: start-up (until the first epoch), time between epochs
  (where the product writes to MLflow), and the end (test, figures, saving, exit)
- peak memory: the largest resident memory of the process, as the kernel counts it
- data ready: loading the data of two jobs, one after the other, in one process that has imported TensorFlow

    python benchmarks/overhead.py                            # 20 epochs on beans, 10 to 20 minutes a pair on two cores
    python benchmarks/overhead.py --pairs 3                  # medians with their spread
    python benchmarks/overhead.py --precision bfloat16       # of the product; the bare script stays in float32
    python benchmarks/overhead.py --product-only --epochs 2 --kernel wide --microbatch 16     # peak memory
    python benchmarks/overhead.py --data synthetic --epochs 2                                 # a trial of one minute

Run it on an idle Linux machine. Nothing is asserted: figures are printed beside the project's goals.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import measure
from benchmarks.measure import BATCH_SIZE, Process, Row, log

SEED = 0


@dataclass(frozen=True)
class Side:
    """One training, by the product or by the bare script; its epochs begin at `began` and end at `ended`."""

    process: Process
    began: float
    ended: float
    epochs: list[float]
    """Seconds of each."""
    accuracy: float
    parameters: int
    logged: str = ""
    """The product's own measurements."""

    @property
    def training(self) -> float:
        return sum(self.epochs)


FIGURES: list[tuple[str, Callable[[Side], float], str, str]] = [
    ("training, s", lambda side: side.training, ".2f", "ratio <= 1.05"),
    ("  median epoch, s", lambda side: median(side.epochs), ".3f", ""),
    ("outside training, s", lambda side: side.process.wall - side.training, ".2f", "< 15"),
    ("  start-up, s", lambda side: side.began - side.process.started, ".2f", ""),
    ("  between epochs, s", lambda side: max(0.0, side.ended - side.began - side.training), ".2f", ""),
    ("  test, save, exit, s", lambda side: side.process.ended - side.ended, ".2f", ""),
    ("wall, s", lambda side: side.process.wall, ".2f", ""),
    ("peak memory, MB", lambda side: side.process.peak_mb, ".0f", "< 4000 (wide 5000)"),
    ("test accuracy", lambda side: side.accuracy, ".4f", "similar"),
]
"""Name, figure, format, goal."""


def main() -> None:
    options = parse(sys.argv[1:])
    if options.role == "data":
        measure.write_result(load_twice(options.data))
    elif options.role == "bare":
        measure.write_result(train_bare(options.epochs))
    else:
        with measure.working_folder("overhead", options.folder) as folder:
            compare(options, folder)


def parse(words: Sequence[str]) -> argparse.Namespace:
    parser = measure.make_parser(__doc__)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--pairs", type=int, default=1, help="runs of each side, in turn")
    parser.add_argument("--data", choices=("beans", "synthetic"), default="beans")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32", help="of the product")
    parser.add_argument("--product-only", action="store_true", help="skip the bare script")
    parser.add_argument("--kernel", default="k5", help="of the product, with --product-only")
    parser.add_argument("--microbatch", type=int, help="of the product, with --product-only")
    parser.add_argument("--folder", type=Path, help="folder for runs and models (default: a temporary one)")
    parser.add_argument("--role", choices=("data", "bare"), help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    if min(options.epochs, options.pairs) < 1:
        parser.error("--epochs and --pairs must be 1 or more")
    if (options.kernel != "k5" or options.microbatch) and not options.product_only:
        parser.error("--kernel and --microbatch need --product-only: the bare script has neither")
    return options


def compare(options: argparse.Namespace, folder: Path) -> None:
    log(f"{options.data}: loading the data of the first and the second job of a grid")
    ready = prepare_data(options.data, folder)
    log("product: a short run that is not counted")
    run_product(options, folder / "product", 1, "data.train_fraction=0.1")
    products, bares = [], []
    for number in range(1, options.pairs + 1):
        log(f"product, {number} of {options.pairs}: {options.epochs} epochs")
        products.append(run_product(options, folder / "product", options.epochs))
        if not options.product_only:
            log(f"bare script, {number} of {options.pairs}: {options.epochs} epochs")
            bares.append(run_bare(options.epochs, folder))
    if len(counts := {side.parameters for side in products + bares}) > 1:
        sys.exit(f"the two sides train different networks: {counts} parameters")
    report(options, products, bares, ready)


def prepare_data(data: str, folder: Path) -> dict[str, float]:
    """Copy the images of `data` for the bare script; return the seconds that the first and second job wait for them."""
    _, seconds = measure.run_role(__file__, "data", folder / measure.IMAGES.name, f"--data={data}")
    return seconds


def run_product(options: argparse.Namespace, folder: Path, epochs: int, *more: str) -> Side:
    words = [f"data={options.data}", f"trainer.epochs={epochs}", f"trainer.precision={options.precision}"]
    words += [f"trainer.batch_size={BATCH_SIZE}", f"seed={SEED}", f"kernel={options.kernel}", "if_exists=rerun", *more]
    if options.microbatch:
        words.append(f"trainer.microbatch={options.microbatch}")
    return read_newest_run(measure.run_process(["-m", "beans_exp", *words], folder), folder)


def read_newest_run(process: Process, folder: Path) -> Side:
    from benchmarks.stores import search_runs, store_of  # not for the bare script: it imports the product

    with store_of(folder) as client:
        run = search_runs(client, order_by=["attributes.start_time DESC"], max_results=1)[0]
        points = client.get_metric_history(run.info.run_id, "time/epoch_seconds")
    points.sort(key=lambda point: point.step)
    epochs = [point.value for point in points]
    metrics = run.data.metrics
    logged = ", ".join(f"{name} {metrics[name]:.1f}" for name in ("time/total_seconds", "memory/peak_rss_mb"))
    began, ended = points[0].timestamp / 1000 - epochs[0], points[-1].timestamp / 1000
    return Side(process, began, ended, epochs, metrics["test/accuracy"], int(metrics["model/parameters"]), logged)


def run_bare(epochs: int, folder: Path) -> Side:
    """Run the bare script in a folder beside the data that `prepare_data` copied into `folder`."""
    process, found = measure.run_role(__file__, "bare", folder / "bare", f"--epochs={epochs}")
    begins, ends = found["begins"], found["ends"]
    seconds = [end - begin for begin, end in zip(begins, ends, strict=True)]
    return Side(process, begins[0], ends[-1], seconds, found["accuracy"], found["parameters"])


def load_twice(name: str) -> dict[str, float]:
    """Load the data set as two jobs of a grid do and copy it for the bare script; return the seconds of each job."""
    import beans_exp.data.batches  # noqa: F401  importing TensorFlow does not count as loading data
    from beans_exp.data import load, source
    from beans_exp.schema import Config

    config = Config(data=measure.data_config(name))
    seconds = {}
    for job in ("first", "second"):
        started = time.perf_counter()
        data = load(config, source(config.data))
        seconds[job] = time.perf_counter() - started
    measure.save_arrays(data)
    return seconds


def train_bare(epochs: int) -> dict[str, Any]:
    """The bare script: LeNet in plain Keras, trained, validated, tested and saved."""
    import keras
    import tensorflow as tf
    from keras import layers

    keras.utils.set_random_seed(SEED)

    def batches(split: str) -> tf.data.Dataset:
        images, labels = measure.load_arrays(split)
        dataset = tf.data.Dataset.from_tensor_slices((images, labels))  # in memory: cache() would be a second copy
        if split == "train":
            dataset = dataset.shuffle(len(labels), seed=SEED)
        return dataset.batch(BATCH_SIZE).prefetch(tf.data.AUTOTUNE)

    train, validation, test = (batches(split) for split in measure.SPLITS)
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
    return {"begins": begins, "ends": ends, "accuracy": accuracy, "parameters": model.count_params()}


def report(
    options: argparse.Namespace, products: Sequence[Side], bares: Sequence[Side], ready: dict[str, float]
) -> None:
    title = f"LeNet ({options.kernel}) on {options.data}, {options.epochs} epochs, product in {options.precision}"
    rows = [Row(name, [*map(of, products)], [*map(of, bares)], form, goal) for name, of, form, goal in FIGURES]
    heading = "goal" if options.data == "beans" else "goal on beans"
    measure.print_comparison(f"{title}, pairs: {options.pairs}", rows, heading)
    print(f"{products[0].parameters:,} parameters on each side")
    print(f"data ready: first job {ready['first']:.2f} s, second job {ready['second']:.2f} s (goal: under 2 s)")
    print(f"logged by the product's last run: {products[-1].logged}")
    print(measure.machine())


if __name__ == "__main__":
    main()
