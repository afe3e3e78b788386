"""Cost of the report: seconds, peak memory and page size on a store of simulated runs.

The store is filled without training: runs of the study's rows and of other configurations, each with parameters, tags,
curves by epoch, metrics and predictions of 128 test images, as the tracker writes them. Curves and predictions are
random draws from a quality per configuration, with noise per seed and image; the accuracies mean nothing. The report
runs in its own process, started with the user's command. Peak memory is the largest resident memory of that
process, as the kernel counts it. On a busy machine, CPU time is more reliable than wall time.

    python benchmarks/report.py                       # 60 and 1,000 runs; filling the second store takes minutes
    python benchmarks/report.py --runs 60 --keep DIR  # keeps store and page in DIR

Nothing is asserted: figures are printed beside the project's goals.
"""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks import measure
from tests.report.simulated import Point, Writer

ENDINGS = ("oom", "failed", "pruned", "diverged")
GOALS = {60: "under 20 s, under 10 MB", 1000: "under 90 s, memory flat"}


def study_points() -> list[Point]:
    """Return the rows of the study, with their reported accuracies as qualities."""
    from hydra import compose, initialize_config_dir

    from beans_exp.schema import CONF, register, to_config

    register()
    points = []
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for file in sorted((CONF / "study").glob("*.yaml")):
            config = to_config(compose("config", [f"study={file.stem}"]))
            reported = config.study.reported if config.study else {}
            inception = config.model.name == "inception"
            points.append(Point(config, reported.get("test/accuracy", 0.7), 60 if inception else 30))
    return points


def other_points(count: int) -> list[Point]:
    """Return `count` configurations outside the study: LeNet with random dropout, L2 and learning rate."""
    from beans_exp.schema import Config, RegConfig, TrainerConfig

    random = np.random.default_rng(5)
    points = []
    for _ in range(count):
        dropout, l2 = (round(float(value), 3) for value in random.uniform(0, (0.6, 0.02)))
        rate = float(f"{10 ** random.uniform(-4, -2):.1e}")
        config = Config(reg=RegConfig("own", dropout=dropout, l2=l2), trainer=TrainerConfig(learning_rate=rate))
        quality = 0.78 - 0.1 * abs(np.log10(rate) + 3) - 0.1 * abs(dropout - 0.3)
        points.append(Point(config, quality, 30))
    return points


def jobs(runs: int) -> Iterator[Point]:
    """Yield `runs` points with seeds; four of five are rows of the study."""
    study = study_points()
    others = other_points(max(1, runs // 10))
    rows = runs * 4 // 5
    for number in range(runs):
        kind, place = (study, number) if number < rows else (others, number - rows)
        point = kind[place % len(kind)]
        yield replace(point, config=replace(point.config, seed=place // len(kind)))


def make_store(folder: Path, runs: int, experiment: str = "beans_exp", endings: bool = True) -> str:
    """Fill a store in `folder` with `runs` runs and return its address; with `endings`, one in 25 did not finish."""
    from beans_exp.tracking.store import open_store

    uri = f"sqlite:///{folder.resolve() / 'mlflow.db'}"
    experiment_id = open_store(uri, experiment)
    writer = Writer(uri, experiment_id)
    for number, point in enumerate(jobs(runs)):
        ending = ENDINGS[number // 25 % 4] if endings and number % 25 == 24 else "finished"
        writer.write(point, ending)
    return uri


def run_report(folder: Path, uri: str) -> str:
    """Run the report on the store at `uri`; return its cost as text. MB are 10^6 bytes."""
    words = ["-m", "beans_exp.report", "--tracking-uri", uri, "--out", str(folder / "report")]
    process = measure.run_process(words, folder)
    page = (folder / "report" / "report.html").stat().st_size / 1e6
    memory = f"peak {process.peak_mb:.0f} MB, page {page:.2f} MB"
    return f"{process.wall:.1f} s (CPU {process.cpu_seconds:.1f} s), {memory}"


def main() -> None:
    """Fill the stores, run the report on each, and print its cost beside the goal."""
    parser = measure.make_parser(__doc__)
    parser.add_argument("--runs", type=int, nargs="+", default=[60, 1000])
    parser.add_argument("--keep", type=Path, help="folder that keeps stores and pages")
    options = parser.parse_args()
    with measure.working_folder("report", options.keep) as parent:
        for runs in options.runs:
            folder = parent / f"runs{runs}"
            folder.mkdir(parents=True, exist_ok=True)
            if not (folder / "mlflow.db").exists():
                started = time.perf_counter()
                make_store(folder, runs)
                print(f"{runs} runs written in {time.perf_counter() - started:.0f} s", flush=True)
            cost = run_report(folder, f"sqlite:///{folder / 'mlflow.db'}")
            print(f"{runs} runs: {cost} (goal: {GOALS.get(runs, 'none')})", flush=True)


if __name__ == "__main__":
    main()
