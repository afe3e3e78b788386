"""What `python -m beans_exp.predict` costs beside a bare Keras script: wall time and peak memory for the same images.

Both classify 100 JPEG files of 500x500, each in a process of its own, in turn: product, bare, product, bare. The bare
script (`classify_bare`) is what one would write without the project: Keras' own `image_dataset_from_directory`, which
reads and resizes in parallel, and `predict`. It knows the model's file; the product finds it in the store by its run.
Both run in the same environment (TF_ENABLE_ONEDNN_OPTS=1, the product's default).
Not counted: drawing the images, training the model for an epoch, and a first run of each side.

    python benchmarks/predict.py                          # LeNet at 299x299
    python benchmarks/predict.py --model inception        # Inception-v3 at 299x299, from random weights
    python benchmarks/predict.py --images 1000 --pairs 3  # is memory flat?

Run it on an idle machine with Linux. Nothing is asserted: the figures are printed beside the project's goal.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

BATCH_SIZE = 32
"""The product's."""
ENVIRONMENT = {"TF_ENABLE_ONEDNN_OPTS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "MLFLOW_DISABLE_TELEMETRY": "true"}
SIZE = 299


@dataclass(frozen=True)
class Side:
    """One process that classified every image."""

    seconds: float
    cpu_seconds: float
    """Other programs on the machine change it less."""
    peak_mb: float
    probabilities: dict[str, list[float]]
    """By file name."""


ROWS = (("wall, s", "seconds", ".2f"), ("CPU, s", "cpu_seconds", ".2f"), ("peak, MB", "peak_mb", ".0f"))
"""Name, field of `Side`, format."""


def main() -> None:
    options = parse(sys.argv[1:])
    if options.bare:
        classify_bare(*options.bare)
        return
    os.environ.update(ENVIRONMENT | os.environ)
    with tempfile.TemporaryDirectory(prefix="predict-") as temporary:
        compare(options, Path(temporary))


def parse(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=("lenet", "lenet5", "googlenet", "inception"), default="lenet")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--pairs", type=int, default=5, help="how often product and bare script take turns")
    parser.add_argument("--bare", nargs=2, metavar=("MODEL", "FOLDER"), help=argparse.SUPPRESS)
    return parser.parse_args(words)


def compare(options: argparse.Namespace, folder: Path) -> None:
    draw_images(folder / "images", options.images)
    run_id, model = train(options.model, folder)
    product = [*("-m", "beans_exp.predict", run_id, "images", "--json")]
    bare = [str(Path(__file__).resolve()), "--bare", str(model), "images"]
    for words in (product, bare):
        run(words, folder)
    pairs = [(run(product, folder), run(bare, folder)) for _ in range(options.pairs)]
    report(options, pairs)


def draw_images(folder: Path, count: int) -> None:
    from PIL import Image

    from beans_exp.data.leaves import draw_split

    folder.mkdir()
    for number, (image, _) in enumerate(draw_split(count, 500, 0, "test")):
        Image.fromarray(image).save(folder / f"{number:05d}.jpg", quality=90)


def train(name: str, folder: Path) -> tuple[str, Path]:
    """Train a model for a moment; return its run and its file."""
    words = [f"model={name}", "data=synthetic", f"data.image_size={SIZE}", "data.train_images=6"]
    words += ["data.validation_images=3", "data.test_images=3", "trainer.epochs=1", "trainer.test=false"]
    words += ["model.weights=null"] if name == "inception" else []
    environment = os.environ | {"XDG_CACHE_HOME": str(folder / "cache")}
    subprocess.run(
        [sys.executable, "-m", "beans_exp", *words], cwd=folder, env=environment, stdout=sys.stderr, check=True
    )
    (file,) = folder.glob("mlruns/artifacts/**/model.keras")
    record = (file.parents[1] / "MLmodel").read_text()
    return next(line.split()[-1] for line in record.splitlines() if line.startswith("run_id:")), file


def run(words: Sequence[str], folder: Path) -> Side:
    started = time.perf_counter()
    with subprocess.Popen([sys.executable, *words], cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        lines = [json.loads(line) for line in process.stdout]
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(words)} ended with {process.returncode}")
    found = {Path(line["file"]).name: probabilities_of(line) for line in lines}
    return Side(time.perf_counter() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e6, found)


def probabilities_of(line: dict[str, Any]) -> list[float]:
    """In the order of the classes' names."""
    return [value for _, value in sorted(line["probabilities"].items())]


def classify_bare(model_file: str, folder: str) -> None:
    """The bare script: the images of `folder`, in plain Keras."""
    import keras

    model = keras.saving.load_model(model_file)
    images = keras.utils.image_dataset_from_directory(
        folder, labels=None, shuffle=False, image_size=(SIZE, SIZE), batch_size=BATCH_SIZE, verbose=False
    )
    probabilities = keras.ops.softmax(model.predict(images, verbose=0)).numpy()
    for file, row in zip(images.file_paths, probabilities, strict=True):
        print(json.dumps({"file": file, "probabilities": {str(index): float(p) for index, p in enumerate(row)}}))


def report(options: argparse.Namespace, pairs: Sequence[tuple[Side, Side]]) -> None:
    print(f"{options.model}, {options.images} images of 500x500 to {SIZE}x{SIZE}, pairs: {len(pairs)}")
    print(f"{'':10}{'product':24}{'bare':24}ratio")
    for name, field, form in ROWS:
        product, bare = ([getattr(pair[side], field) for pair in pairs] for side in (0, 1))
        ratios = [mine / theirs for mine, theirs in zip(product, bare, strict=True)]
        print(f"{name:10}{spread(product, form):24}{spread(bare, form):24}{spread(ratios, '.2f')}")
    print("goal: a ratio of wall times under 1.30")
    print(
        f"largest difference of a probability: {difference(*pairs[0]):.4f} (the product rounds pixels, as in training)"
    )


def spread(values: Sequence[float], form: str) -> str:
    return f"{median(values):{form}} ({min(values):{form}}-{max(values):{form}})"


def difference(product: Side, bare: Side) -> float:
    if product.probabilities.keys() != bare.probabilities.keys():
        sys.exit("the two sides classified different files")
    found = ((product.probabilities[name], bare.probabilities[name]) for name in bare.probabilities)
    return max(abs(mine - theirs) for pair in found for mine, theirs in zip(*pair, strict=True))


if __name__ == "__main__":
    main()
