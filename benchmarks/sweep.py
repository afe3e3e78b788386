"""Cost of a sweep besides its jobs: seconds per job compared with a bare script, and the memory of its parent process.

A grid of small LeNets on synthetic leaves, one seed each, runs through the isolated launcher; then the bare script of
`benchmarks/overhead.py` runs several times, each time in its own process: it imports TensorFlow, trains the same
network on the same images, tests and saves it. The sweep's time per job minus that of the bare script is its cost for
planning, tracking, figures and isolation. The parent's resident memory is sampled while each job runs.

    python benchmarks/sweep.py                  # 50 jobs, 5 bare scripts: some ten minutes on two cores
    python benchmarks/sweep.py --jobs 10

Run it on an idle Linux machine. Nothing is asserted: figures are printed beside the project's goals.
"""

import sys
import time
from pathlib import Path
from statistics import median

import psutil

from benchmarks import measure, overhead

EPOCHS = 2


def main() -> None:
    """Run both and print the sweep's own cost."""
    parser = measure.make_parser(__doc__)
    parser.add_argument("--jobs", type=int, default=50)
    parser.add_argument("--bare", type=int, default=5, help="runs of the bare script")
    options = parser.parse_args()
    with measure.working_folder("sweep") as folder:
        overhead.prepare_data("synthetic", folder)
        bare = median(overhead.run_bare(EPOCHS, folder).process.wall for _ in range(options.bare))
        wall, memory = run_sweep(folder / "sweep", options.jobs)
    print(f"{options.jobs} jobs: {wall:.0f} s, {wall / options.jobs:.2f} s each; bare script {bare:.2f} s")
    print(f"overhead {wall / options.jobs - bare:.2f} s per job, start of the sweep included (goal: under 3)")
    at = (2, options.jobs // 2, options.jobs)
    sampled = ", ".join(f"{memory[min(memory, key=lambda job: abs(job - number))]:.0f}" for number in at)
    print(f"memory of the parent at jobs {at}: {sampled} MB (goal: flat)")
    print(measure.machine())


def run_sweep(folder: Path, jobs: int) -> tuple[float, dict[int, float]]:
    """Return the seconds of the sweep, and its parent's memory in MB by the number of jobs started."""
    folder.mkdir()
    words = ["-m", "data=synthetic", f"trainer.epochs={EPOCHS}", f"trainer.batch_size={measure.BATCH_SIZE}"]
    memory: dict[int, float] = {}
    started = time.monotonic()
    with measure.start_product([*words, f"seed=range({jobs})"], folder) as process:
        parent = psutil.Process(process.pid)
        while process.poll() is None:
            begun = len([place for place in folder.glob("outputs/sweeps/*/*") if place.is_dir()])
            memory[begun] = max(memory.get(begun, 0.0), parent.memory_info().rss / 1e6)
            time.sleep(0.2)
    if process.returncode:
        sys.exit(f"the sweep ended with {process.returncode}")
    return time.monotonic() - started, memory


if __name__ == "__main__":
    main()
