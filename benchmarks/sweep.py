"""What a sweep costs beside its jobs: seconds a job over a bare script, and the memory of its parent.

One grid of small LeNets on drawn leaves, a seed each, through the isolated launcher; and the bare script of
`benchmarks/overhead.py` in a process of its own, again and again: it imports TensorFlow, trains the same network on the
same images, tests and saves it. What the sweep takes, divided by its jobs, less the bare script's time, is its price
for planning, tracking, figures and isolation. The parent's resident memory is looked at while each job runs.

    python benchmarks/sweep.py                  # 50 jobs, 5 bare scripts: some ten minutes on two cores
    python benchmarks/sweep.py --jobs 10

Run it on an idle machine with Linux. Nothing is asserted: the figures are printed beside the project's goals.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import psutil

from benchmarks import overhead

EPOCHS = 2


def main() -> None:
    """Run both, and print what the sweep took for itself."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=50)
    parser.add_argument("--bare", type=int, default=5, help="how often the bare script runs")
    options = parser.parse_args()
    os.environ.update(overhead.ENVIRONMENT | os.environ)
    with tempfile.TemporaryDirectory(prefix="sweep-") as temporary:
        folder = Path(temporary)
        overhead.run_role("data", folder / "data", "--data=synthetic")
        bare = median(run_bare(folder / "bare") for _ in range(options.bare))
        wall, memory = run_sweep(folder / "sweep", options.jobs)
    print(f"{options.jobs} jobs: {wall:.0f} s, {wall / options.jobs:.2f} s each; bare script {bare:.2f} s")
    print(f"overhead {wall / options.jobs - bare:.2f} s a job, the sweep's own start in it (goal: under 3)")
    at = (2, options.jobs // 2, options.jobs)
    held = ", ".join(f"{memory[min(memory, key=lambda job: abs(job - number))]:.0f}" for number in at)
    print(f"the parent's memory at jobs {at}: {held} MB (goal: flat)")
    print(overhead.machine())


def run_bare(folder: Path) -> float:
    process, _ = overhead.run_role("bare", folder, f"--epochs={EPOCHS}")
    return process.exited - process.launched


def run_sweep(folder: Path, jobs: int) -> tuple[float, dict[int, float]]:
    """Return the seconds that the sweep took, and its parent's memory in MB by the number of jobs begun."""
    folder.mkdir()
    words = ["-m", "data=synthetic", f"trainer.epochs={EPOCHS}", f"trainer.batch_size={overhead.BATCH_SIZE}"]
    memory: dict[int, float] = {}
    launched = time.monotonic()
    command = [sys.executable, "-m", "beans_exp", *words, f"seed=range({jobs})"]
    with subprocess.Popen(command, cwd=folder, stdout=sys.stderr) as process:
        parent = psutil.Process(process.pid)
        while process.poll() is None:
            begun = len([place for place in folder.glob("outputs/sweeps/*/*") if place.is_dir()])
            memory[begun] = max(memory.get(begun, 0.0), parent.memory_info().rss / 1e6)
            time.sleep(0.2)
    if process.returncode:
        sys.exit(f"the sweep ended with {process.returncode}")
    return time.monotonic() - launched, memory


if __name__ == "__main__":
    main()
