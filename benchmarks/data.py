"""Cost of a folder of photos: its preparation against a bare `tf.data` pipeline, and what is left in later runs.

The folder holds JPEG files of 500x500 in three classes, without splits. Each step is a process of its own:

- `describe`: the files are listed, hashed and split for the first time, then again, with nothing changed. Then the same
  with a tenth of the files: does memory grow?
- `prepare`: the product reads and resizes every file and writes the cache; a bare pipeline decodes the same files with
  `tf.io.decode_jpeg`, resizes them with `tf.image.resize`, both in parallel, and writes as many bytes. Both run
  alternately, after a first reading of all files. Imports are not counted.
- `train`: from the end of the preparation to the first batch of training; and in a second run from nothing to the same.

    python benchmarks/data.py                                     # 10,000 files to 299x299
    python benchmarks/data.py --images 1000 --size 96 --pairs 3
    python benchmarks/data.py --images 100000 --pairs 0           # listing and planning alone

Run it on an idle machine. Nothing is asserted: figures are printed beside the project's goals.
"""

import argparse
import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import measure
from benchmarks.measure import Row

CLASSES = ("healthy", "rust", "spot")
SIDE = 500
DRAWN = 50
"""Different pictures; every file has bytes of its own after the end of the picture."""


def main(words: Sequence[str] | None = None) -> None:
    """Measure what the command line `words` ask for."""
    options = parse(words)
    if options.role:
        measure.write_result(ROLES[options.role](options.folder, options.size))
        return
    with measure.working_folder("data") as folder:
        compare(options, folder)


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    parser = measure.make_parser(__doc__)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--size", type=int, default=299, help="pixels of a side after resizing")
    parser.add_argument("--pairs", type=int, default=3, help="preparations of each side, in turn")
    parser.add_argument("--role", choices=tuple(ROLES), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(words)


def compare(options: argparse.Namespace, folder: Path) -> None:
    measure.log(f"writing {options.images} files")
    for name, count in (("all", options.images), ("tenth", options.images // 10)):
        write_images(folder / name, count)

    def run(role: str, images: str, place: str) -> tuple[float, dict[str, Any]]:
        words = ("--folder", str(folder / images), "--size", str(options.size))
        measure.log(f"{role}, {images} images")
        process, result = measure.run_role(__file__, role, folder / place, *words)
        return process.peak_mb, result

    tenth, _ = run("describe", "tenth", "few")
    peak, first = run("describe", "all", "many")
    _, again = run("describe", "all", "many")
    print(f"{options.images} files listed, hashed and split: {first['seconds']:.1f} s, again: {again['seconds']:.2f} s")
    print(f"peak memory: {peak:.0f} MB, with a tenth of the files {tenth:.0f} MB")
    pairs = [(run("prepare", "all", f"run{i}")[1], run("bare", "all", "bare")[1]) for i in range(options.pairs)]
    if pairs:
        report(options, pairs, run("train", "all", f"run{len(pairs) - 1}")[1])
    print(measure.machine())


def report(options: argparse.Namespace, pairs: Sequence[tuple[dict[str, Any], dict[str, Any]]], second: dict) -> None:
    product, bare = (list(side) for side in zip(*pairs, strict=True))
    speeds = [[options.images / result["seconds"] for result in side] for side in (product, bare)]
    cpu = [[1000 * result["cpu"] / options.images for result in side] for side in (product, bare)]
    rows = [
        Row("prepared images per second", speeds[0], speeds[1], ".0f", "ratio of 0.9 or more"),
        Row("CPU ms per image", cpu[0], cpu[1], ".2f"),
    ]
    measure.print_comparison(f"{options.images} images of {SIDE}x{SIDE} to {options.size}x{options.size}", rows)
    started = measure.spread([result["first_batch"] for result in product], ".1f")
    print(f"from the end of the preparation to the first batch: {started} s (goal: 10)")
    print(f"data of a second run: {second['described'] + second['loaded']:.2f} s (goal: 2), then the first batch")
    print(f"after another {second['first_batch']:.1f} s")


def write_images(root: Path, count: int) -> None:
    """Write `count` photos in folders of classes."""
    import io

    from PIL import Image

    from beans_exp.data.leaves import draw_split

    drawn: list[bytes] = []
    for image, _ in draw_split(min(DRAWN, count), SIDE, 0, "test"):
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, "JPEG", quality=90)
        drawn.append(stream.getvalue())
    for number in range(count):
        file = root / CLASSES[number % 3] / f"field{number % 7}" / f"IMG_{number:06d}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(drawn[number % len(drawn)] + number.to_bytes(4, "big"))
        os.utime(file, (1, 1))


def configure(folder: Path, size: int) -> Any:
    """Return the product's configuration of the folder, with caches in the working folder."""
    from beans_exp.schema import Config, DataConfig

    os.environ["XDG_DATA_HOME"] = str(Path("share").resolve())
    return Config(data=DataConfig("folder", data_dir=str(folder), image_size=size, cache_dir="cache"))


def describe(folder: Path, size: int) -> dict[str, float]:
    from beans_exp.data import source

    config = configure(folder, size)
    started = time.perf_counter()
    described = source(config.data)
    assert described.counts["train"] > described.counts["test"]
    return {"seconds": time.perf_counter() - started}


def prepare(folder: Path, size: int) -> dict[str, float]:
    """Prepare the folder from nothing; return the seconds of that, and those until the first batch."""
    import tensorflow as tf

    from beans_exp.data import source
    from beans_exp.data.prepared import prepare

    shutil.rmtree("cache", ignore_errors=True)
    config = configure(folder, size)
    described = source(config.data)  # reads every file
    tf.zeros(1)
    result = timed(lambda: prepare(described, size, "cache"))
    return result | first_batch(config, described)


def train(folder: Path, size: int) -> dict[str, float]:
    """Do what a second run does until its first batch."""
    import tensorflow as tf

    from beans_exp.data import source

    config = configure(folder, size)
    tf.zeros(1)
    started = time.perf_counter()
    described = source(config.data)
    return {"described": time.perf_counter() - started} | first_batch(config, described)


def first_batch(config: Any, described: Any) -> dict[str, float]:
    from beans_exp.data import load
    from beans_exp.data.batches import train_batches

    started = time.perf_counter()
    data = load(config, described)
    loaded = time.perf_counter()
    next(iter(train_batches(data.train, measure.BATCH_SIZE, 0, range(1))))
    return {"loaded": loaded - started, "first_batch": time.perf_counter() - started}


def bare(folder: Path, size: int) -> dict[str, float]:
    """The bare pipeline."""
    import tensorflow as tf

    files = sorted(str(file) for file in folder.rglob("*.jpg"))
    for file in files:
        Path(file).read_bytes()

    def read(file: tf.Tensor) -> tf.Tensor:
        image = tf.image.resize(tf.io.decode_jpeg(tf.io.read_file(file), channels=3), (size, size))
        return tf.cast(tf.round(image), tf.uint8)

    def write() -> None:
        dataset = tf.data.Dataset.from_tensor_slices(files).map(read, num_parallel_calls=tf.data.AUTOTUNE)
        with Path("images.raw").open("wb") as stream:
            for image in dataset.prefetch(tf.data.AUTOTUNE).as_numpy_iterator():
                stream.write(image.tobytes())

    return timed(write)


def timed(work: Callable[[], object]) -> dict[str, float]:
    """Return the seconds that `work` takes, and its seconds on all cores."""
    started, cpu = time.perf_counter(), time.process_time()
    work()
    return {"seconds": time.perf_counter() - started, "cpu": time.process_time() - cpu}


ROLES: dict[str, Callable[[Path, int], dict[str, float]]] = {
    "describe": describe,
    "prepare": prepare,
    "train": train,
    "bare": bare,
}

if __name__ == "__main__":
    main()
