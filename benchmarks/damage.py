"""Files with a flipped bit or a missing end: is each of them set aside, or read as it was written?

Small files of each kind (about 2 kB: a checkpoint, a head, a message with its body, the address of a queue, an entry
of cached activations, resized images) are damaged in every way: one bit of every byte is flipped, and they are cut
after every byte. Large ones get random flips: the resized images of beans, activations of its training images at
mixed7 (drawn numbers, written by the cache itself), and a checkpoint of LeNet with Adam's state. The product reads
each damaged file as a run would.

    python benchmarks/damage.py                   # some twenty minutes, 4 GB of temporary files
    python benchmarks/damage.py --only small      # two minutes
    python benchmarks/damage.py --data synthetic  # without beans

Printed for each file: damages, how many were set aside (and computed or asked for anew) or changed nothing that is
read, and how many were read wrongly or ended in a traceback, which exits with status 1; and seconds of a check of the
undamaged file, from the page cache.
"""

import logging
import os
import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from beans_exp.startup.imports import quiet_libraries
from benchmarks import measure

quiet_libraries()

import tensorflow as tf  # noqa: E402

from beans_exp.data import Data, Source, Split, source  # noqa: E402
from beans_exp.data.prepared import find_problem, prepare  # noqa: E402
from beans_exp.models.backbone import Cut  # noqa: E402
from beans_exp.schema import Config, FeaturesConfig, ModelConfig  # noqa: E402
from beans_exp.tracking.message_queue import find_queues, new_queue  # noqa: E402
from beans_exp.training.checkpoint import Checkpoints, TrainingState  # noqa: E402
from beans_exp.training.feature_cache import HEAD, ActivationCache, SplitVersion  # noqa: E402

OUTCOMES = ("set aside", "unchanged", "read wrongly", "traceback")
MARK = "f" * 16
MIXED7 = (17, 17, 768)
LENET = (27_000_000, 27_000_000, 27_000_000)
"""Weights of the report's LeNet, and two numbers for each of them in Adam's state."""

Read = Callable[[Path], Any]


@dataclass(frozen=True)
class Target:
    """Files in a folder, and how the product reads them: what it returns is None if they are set aside."""

    name: str
    folder: Path
    file: str
    """The one that is damaged."""
    read: Read
    is_large: bool = False

    @property
    def path(self) -> Path:
        return self.folder / self.file


def main() -> None:
    """Damage everything, and print the table."""
    parser = measure.make_parser(__doc__)
    parser.add_argument("--only", choices=("small", "large"))
    parser.add_argument("--data", choices=("beans", "synthetic"), default="beans")
    parser.add_argument(
        "--flips", type=int, default=1000, help="of the images; a tenth of them for the other large files"
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    random.seed(options.seed)
    logging.disable(logging.CRITICAL)
    rows, failed = [], 0
    with measure.working_folder("damage") as folder:
        os.chdir(folder)
        for target in small_targets(folder) if options.only != "large" else ():
            counts = Counter(outcomes(target, [*every_flip(target), *every_end(target)]))
            rows.append(cells(target, counts))
            failed += counts["read wrongly"] + counts["traceback"]
        for target in large_targets(folder, options.data) if options.only != "small" else ():
            flips = options.flips if target.name == "images" else options.flips // 10
            counts = Counter(outcomes(target, [random_flip(target) for _ in range(flips)]))
            rows.append(cells(target, counts))
            failed += counts["read wrongly"] + counts["traceback"]
            shutil.rmtree(target.folder)
    measure.print_table(f"damaged files ({measure.machine()})", HEADERS, rows)
    sys.exit(1 if failed else 0)


HEADERS = ["file", "bytes", "damages", *OUTCOMES, "seconds a check"]


def cells(target: Target, counts: "Counter[str]") -> list[str]:
    started = time.perf_counter()
    with working_copy(target) as copy:
        assert target.read(copy) is not None
    seconds = time.perf_counter() - started
    measure.log(f"{target.name}: {dict(counts)}, {seconds:.3f} s a check")
    size, total = target.path.stat().st_size, sum(counts.values())
    return [target.name, f"{size:,}", f"{total:,}", *(f"{counts[name]:,}" for name in OUTCOMES), f"{seconds:.3f}"]


# Damages: each changes a file for as long as its block


Damage = Callable[[Path], object]


def every_flip(target: Target) -> Iterator[Damage]:
    """Yield a flip of one bit in each byte: of all eight in turn."""
    for offset in range(target.path.stat().st_size):
        yield lambda file, offset=offset: flip(file, offset, offset % 8)  # type: ignore[misc]


def every_end(target: Target) -> Iterator[Damage]:
    """Yield each truncation, to nothing at first."""
    for size in range(target.path.stat().st_size):
        yield lambda file, size=size: os.truncate(file, size)  # type: ignore[misc]


def random_flip(target: Target) -> Damage:
    offset, bit = random.randrange(target.path.stat().st_size), random.randrange(8)
    return lambda file: flip(file, offset, bit)


def flip(file: Path, offset: int, bit: int) -> None:
    with file.open("r+b") as stream:
        stream.seek(offset)
        (byte,) = stream.read(1)
        stream.seek(offset)
        stream.write(bytes([byte ^ 1 << bit]))


def outcomes(target: Target, damages: Iterable[Damage]) -> Iterator[str]:
    """Yield the outcome of each damage."""
    with working_copy(target) as copy:
        expected = target.read(copy)
        assert expected is not None
    for damage in damages:
        with working_copy(target) as copy:
            damage(copy / target.file)
            outcome = outcome_of(target, copy, expected)
        if target.is_large:
            damage(target.path)  # the copy is the same file under another name: a second flip restores it
        yield outcome


def outcome_of(target: Target, copy: Path, expected: Any) -> str:
    try:
        found = target.read(copy)
    except Exception:  # the user would see a traceback
        return "traceback"
    return "set aside" if found is None else "unchanged" if is_equal(found, expected) else "read wrongly"


@contextmanager
def working_copy(target: Target) -> Iterator[Path]:
    """Yield a copy of the target's folder, to be damaged and read; large files are linked."""
    copy = target.folder.with_name("copy")
    shutil.copytree(target.folder, copy, copy_function=os.link if target.is_large else shutil.copy2)
    try:
        yield copy
    finally:
        shutil.rmtree(copy)


def is_equal(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray):
        return one.shape == other.shape and one.dtype == other.dtype and bool((one == other).all())
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(is_equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(is_equal(*pair) for pair in zip(one, other, strict=True))
    return bool(one == other)


# Targets


def small_targets(folder: Path) -> list[Target]:
    """Write the small files."""
    images = write_images(folder / "images", numbers_source(), 8)
    entry = write_activations(folder / "entry", few_images(6), (2, 2, 16))
    return [
        write_checkpoint("checkpoint", folder / "checkpoint", "checkpoint.npz", (60, 60, 60)),
        write_checkpoint("head", folder / "head", HEAD.format(MARK), (60, 0, 0)),
        *write_queue(folder / "queue"),
        *(replace(entry, name=f"activations: {file}", file=f"{entry.file}/{file}") for file in ENTRY),
        *(replace(images, name=f"images: {file}", file=f"{images.file}/{file}") for file in PREPARED),
    ]


def large_targets(folder: Path, data: str) -> Iterator[Target]:
    """Write a large file at a time."""
    counts = {} if data == "beans" else {"train_images": 1034, "validation_images": 133, "test_images": 128}
    images = write_images(folder / "images-large", source(measure.data_config(data, **counts)), 299)
    yield replace(images, file=f"{images.file}/train.images.raw", name="images", is_large=True)
    entry = write_activations(folder / "entry-large", few_images(1034), MIXED7)
    yield replace(entry, file=f"{entry.file}/activations", name="activations at mixed7", is_large=True)
    yield replace(write_checkpoint("checkpoint of LeNet", folder / "lenet", "checkpoint.npz", LENET), is_large=True)


ENTRY = ("entry.json", "activations")
PREPARED = ("checksums.json", "train.images.raw", "train.labels.npy")


def write_checkpoint(name: str, folder: Path, file: str, sizes: tuple[int, int, int]) -> Target:
    folder.mkdir()
    rng = np.random.default_rng(0)
    weights, first, second = (rng.standard_normal(size, np.float32) for size in sizes)
    arrays = {"model": [weights], "fitted": [], "optimizer": [first, second], "best": []}
    state = TrainingState(1, 0.5, 0, [{"train/loss": 1.0, "val/accuracy": 0.5}], {}, arrays)
    Checkpoints(folder / file, MARK, "run").save(state)

    def read(copy: Path) -> Any:
        found = Checkpoints.read(copy / file, MARK)
        return None if found.state is None else {**vars(found.state), "run_id": found.run_id}

    return Target(name, folder, file, read)


def write_queue(folder: Path) -> list[Target]:
    queue = new_queue(folder, "http://127.0.0.1:5000", "beans_exp", MARK, None, {"name": "x" * 999, "started": 1})
    points = [["train/loss", 1.0 / step, 1795817010122, step] for step in range(1, 41)]
    queue.add("metrics", {"points": points})
    queue.add("file", {}, "predictions.csv", lambda file: file.write_text("index,label,predicted\n" * 90))
    place = queue.folder.relative_to(folder)

    def read(copy: Path) -> Any:
        """The address, the first message and the body of the second, as they would be delivered."""
        for found in find_queues(copy):
            if len(pending := found.pending) == 2:
                return found.address, found.last_content("metrics"), (pending[1] / "predictions.csv").read_bytes()
        return None

    files = {
        "message": "000000/message.json",
        "message with a body": "000001/message.json",
        "body of a message": "000001/predictions.csv",
        "address": "address.json",
    }
    return [Target(name, folder, str(place / file), read) for name, file in files.items()]


def write_activations(folder: Path, data: Data, shape: tuple[int, int, int]) -> Target:
    """Let the cache write drawn activations of this shape; `file` is the folder of the entry."""
    folder.mkdir()
    weights = folder.with_suffix(".weights.h5")
    weights.write_bytes(b"weights of no base")

    def cache(root: Path) -> ActivationCache:
        config = Config(model=ModelConfig("inception", str(weights), "mixed10"), features=FeaturesConfig(dir=str(root)))
        opened = ActivationCache(None, config, data)
        opened.segments[Cut("image"), Cut("mixed7")] = lambda batch: tf.random.normal((len(batch), *shape))
        return opened

    def read(copy: Path) -> Any:
        found = cache(copy).load(SplitVersion("train"), Cut("mixed7"))
        return found and (found[0].images if len(data.train) < 100 else "verified", found[1])

    cache(folder).activations(SplitVersion("train"), Cut("mixed7"))
    (entry,) = (path for path in folder.iterdir() if path.is_dir())
    return Target("activations", folder, entry.name, read)


def few_images(count: int) -> Data:
    split = Split(np.zeros((count, 2, 2, 3), np.uint8), np.arange(count) % 3)
    return Data(numbers_source(), 2, split, split, split)


def numbers_source() -> Source:
    """Three classes of small images, each filled with its label."""

    def read(split: str) -> Iterator[tuple[np.ndarray, int]]:
        yield from ((np.full((8, 8, 3), label, np.uint8), label) for label in range(3))

    return Source("numbers", "1", "0" * 64, ("a", "b", "c"), read)


class PreparedAgainError(Exception):
    """The source was read, although there are prepared images."""


def write_images(folder: Path, described: Source, size: int) -> Target:
    """Let the product prepare the images; `file` is the folder of the prepared data set."""
    prepare(described, size, str(folder))
    (prepared,) = (path for path in (folder / "data").iterdir() if path.is_dir())
    place = prepared.relative_to(folder)

    def again(split: str) -> Iterator[tuple[np.ndarray, int]]:
        raise PreparedAgainError

    def read(copy: Path) -> Any:
        if size > 8:
            return None if find_problem(copy / place) else "intact"  # else each would be prepared again
        try:
            found = prepare(replace(described, read=again), size, str(copy))
        except PreparedAgainError:
            return None
        return {name: (np.array(split.images), split.labels) for name, split in found.items()}

    return Target("images", folder, str(place), read)


if __name__ == "__main__":
    main()
