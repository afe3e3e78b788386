"""Cost of `python -m beans_exp.predict` compared with a bare Keras script: wall time and peak memory.

Both classify the same 100 JPEG files of 500x500, each in its own process, alternating: product, bare, product, bare.
The bare script (`classify_bare`) does the same without the project: Keras' own `image_dataset_from_directory`, which
reads and resizes in parallel, and `predict`. It is given the model's file; the product finds the model in the store by
its run.
Both run in the same environment (TF_ENABLE_ONEDNN_OPTS=1, the product's default).
Not counted: drawing the images, training the model for an epoch, and a first run of each side.

    python benchmarks/predict.py                          # LeNet at 299x299
    python benchmarks/predict.py --model inception        # Inception-v3 at 299x299, with random weights
    python benchmarks/predict.py --images 1000 --pairs 3  # is memory flat?

Run it on an idle Linux machine. Nothing is asserted: figures are printed beside the project's goal.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import measure
from benchmarks.measure import Process, Row

BATCH_SIZE = 32
"""The product's."""
SIZE = 299


@dataclass(frozen=True)
class Side:
    """One process that classified every image."""

    process: Process
    probabilities: dict[str, list[float]]
    """By file name."""


FIGURES = (
    ("wall, s", "wall", ".2f", "ratio < 1.30"),
    ("CPU, s", "cpu_seconds", ".2f", ""),
    ("peak memory, MB", "peak_mb", ".0f", ""),
)
"""Name, attribute of `Process`, format, goal."""


def main() -> None:
    options = parse(sys.argv[1:])
    if options.bare:
        classify_bare(*options.bare)
        return
    with measure.working_folder("predict") as folder:
        compare(options, folder)


def parse(words: Sequence[str]) -> argparse.Namespace:
    parser = measure.make_parser(__doc__)
    parser.add_argument("--model", choices=("lenet", "lenet5", "googlenet", "inception"), default="lenet")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--pairs", type=int, default=5, help="runs of each side, in turn")
    parser.add_argument("--bare", nargs=2, metavar=("MODEL", "FOLDER"), help=argparse.SUPPRESS)
    return parser.parse_args(words)


def compare(options: argparse.Namespace, folder: Path) -> None:
    draw_images(folder / "images", options.images)
    run_id, model = train(options.model, folder)
    product = [*("-m", "beans_exp.predict", run_id, "images", "--json")]
    bare = [str(Path(__file__).resolve()), "--bare", str(model), "images"]
    for words in (product, bare):
        classify(words, folder)
    pairs = [(classify(product, folder), classify(bare, folder)) for _ in range(options.pairs)]
    report(options, pairs)


def draw_images(folder: Path, count: int) -> None:
    from PIL import Image

    from beans_exp.data.leaves import draw_split

    folder.mkdir()
    for number, (image, _) in enumerate(draw_split(count, 500, 0, "test")):
        Image.fromarray(image).save(folder / f"{number:05d}.jpg", quality=90)


def train(name: str, folder: Path) -> tuple[str, Path]:
    """Train a model for one epoch; return the id of its run and its file."""
    words = [f"model={name}", "data=synthetic", f"data.image_size={SIZE}", "data.train_images=6"]
    words += ["data.validation_images=3", "data.test_images=3", "trainer.epochs=1", "trainer.test=false"]
    words += ["model.weights=null"] if name == "inception" else []
    process = measure.start_product(words, folder, XDG_CACHE_HOME=str(folder / "cache"))
    if process.wait():
        sys.exit(f"training {name} ended with {process.returncode}")
    (file,) = folder.glob("mlruns/artifacts/**/model.keras")
    record = (file.parents[1] / "MLmodel").read_text()
    return next(line.split()[-1] for line in record.splitlines() if line.startswith("run_id:")), file


def classify(words: Sequence[str], folder: Path) -> Side:
    """Run Python with `words`, which print a line of JSON for each image."""
    process = measure.run_process(words, folder, capture=True)
    lines = [json.loads(line) for line in process.output.splitlines()]
    return Side(process, {Path(line["file"]).name: probabilities_of(line) for line in lines})


def probabilities_of(line: dict[str, Any]) -> list[float]:
    """Return the probabilities of a line in the order of the class names."""
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
    title = f"{options.model}, {options.images} images of 500x500 to {SIZE}x{SIZE}, pairs: {len(pairs)}"
    rows = []
    for name, attribute, form, goal in FIGURES:
        product, bare = ([getattr(pair[side].process, attribute) for pair in pairs] for side in (0, 1))
        rows.append(Row(name, product, bare, form, goal))
    measure.print_comparison(title, rows)
    largest = difference(*pairs[0])
    print(f"largest difference between probabilities: {largest:.4f} (the product rounds pixels, as in training)")
    print(measure.machine())


def difference(product: Side, bare: Side) -> float:
    """Return the largest difference between the probabilities of the two sides."""
    if product.probabilities.keys() != bare.probabilities.keys():
        sys.exit("the two sides classified different files")
    found = ((product.probabilities[name], bare.probabilities[name]) for name in bare.probabilities)
    return max(abs(mine - theirs) for pair in found for mine, theirs in zip(*pair, strict=True))


if __name__ == "__main__":
    main()
