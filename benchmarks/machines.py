"""One search on several machines: the overhead of sharing one study on one Postgres.

Each worker runs the same command in its own folder with its own caches, as if on its own machine; the study and
the runs are in one Postgres (Debian's, started for this), the runs through one MLflow server. One worker and its jobs
are killed (SIGKILL) on the way. Afterwards the requested trials must be complete, none twice, with nothing left open.

    python benchmarks/machines.py                            # 4 workers, 40 trials: some ten minutes on two cores
    python benchmarks/machines.py --workers 2 --trials 6

The ideal is the CPU time used meanwhile, spread over all cores: run it on an idle machine. Exits with status 1 if a
trial is missing.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks import measure, stores
from tests.servers import mlflow_server, postgres

SEARCH = [
    *["-m", "hydra/sweeper=optuna", "data=synthetic", "data.image_size=32", "data.train_images=12"],
    *["data.validation_images=6", "data.test_images=6", "trainer.epochs=2", "trainer.batch_size=6", "confirm.top=0"],
    *["hydra/sweeper/sampler=random", "reg.l2=tag(log,interval(1e-5,1e-1))", "tracking.save_model=none"],
]


@dataclass(frozen=True)
class SharedSearch:
    """The outcome of a search that several workers shared."""

    wall: float
    """Seconds from the first start to the last end."""
    ideal: float
    """Seconds of CPU time, divided by the cores."""
    statuses: list[int]
    """Exit statuses of the workers."""
    problems: list[str]


def share(folder: Path, workers: int, trials: int, kill_after: float | None) -> SharedSearch:
    """Run one search with `workers` workers; the first one is killed after `kill_after` seconds."""
    with postgres() as database, mlflow_server(folder, f"{database}/mlflow") as server:
        storage = f"{database}/optuna"
        words = [*SEARCH, f"hydra.sweeper.n_trials={trials}", f"hydra.sweeper.storage={storage}"]
        words += ["tracking=server", f"tracking.uri={server.address}"]
        used = _cpu_seconds()
        started = time.monotonic()
        processes = [_start(folder / f"machine-{number}", words) for number in range(workers)]
        if kill_after is not None:
            time.sleep(kill_after)
            os.killpg(processes[0].pid, signal.SIGKILL)
        statuses = [process.wait(3600) for process in processes]
        wall = time.monotonic() - started
        ideal = (_cpu_seconds() - used) / measure.cores()
        return SharedSearch(wall, ideal, statuses, find_problems(storage, server.address, trials))


def _start(folder: Path, words: list[str]) -> "subprocess.Popen[bytes]":
    folder.mkdir()
    cache = str(folder / "cache")
    return measure.start_product(words, folder, folder / "log", own_group=True, XDG_CACHE_HOME=cache)


def _cpu_seconds() -> float:
    """Return the CPU time used by all processes of this machine: jobs are not children of this process."""
    used = psutil.cpu_times()
    return used.user + used.nice + used.system


def find_problems(storage: str, server: str, trials: int) -> list[str]:
    """Return the problems in the study and the runs."""
    import mlflow

    states = stores.trial_states(storage)
    problems = [] if states == {"COMPLETE": trials} else [f"trials are {dict(states)}, expected {trials} complete"]
    runs = stores.search_runs(mlflow.MlflowClient(server))
    counts = stores.trainings(runs).items()
    problems += [f"{fingerprint} was trained {count} times" for fingerprint, count in counts if count > 1]
    return problems + stores.open_or_orphaned(runs)


def main() -> None:
    """Print the overhead of sharing a search, and whether every trial was run exactly once."""
    parser = measure.make_parser(__doc__)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--kill-after", type=float, default=60.0, help="seconds until the first worker is killed")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="machines-"))
    found = share(folder, options.workers, options.trials, options.kill_after)
    done = f"{options.trials} trials on {options.workers} workers, one killed: {found.wall:.0f} s"
    print(f"{done}; exit statuses {found.statuses}")
    print(f"ideal {found.ideal:.0f} s on {measure.cores()} cores: ratio {found.wall / found.ideal:.2f} (goal 1.3)")
    print("; ".join(found.problems) or "every trial once")
    sys.exit(1 if found.problems else 0)


if __name__ == "__main__":
    main()
