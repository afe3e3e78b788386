"""Sweeps that are killed at random moments and run again: does each end with exactly its jobs?

Each round starts a grid or a search of small jobs on synthetic leaves, kills its workers, its parent or both with
SIGKILL at a random moment, up to `--kills` times, and then runs the same command to its end. A sweep that ends before
its kill does not count as a round, and limits how late the next ones are killed. The stores of MLflow and Optuna must
then have:

- one parent run, and one FINISHED run per job, including the one that confirms the winner of a search
- no run RUNNING
- every epoch of every metric once, without gaps
- intact databases (`PRAGMA integrity_check`), and in a search exactly `n_trials` trials that count

    python benchmarks/kills.py                     # 20 rounds, some twenty minutes on two cores
    python benchmarks/kills.py --rounds 2 --seed 7

Exits with status 1 if a round fails, and keeps its folder. Linux only.
"""

import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil

from beans_exp.launcher.processes import job_processes
from benchmarks import measure, stores

EPOCHS = 6
DATA = [
    "data=synthetic",
    "data.image_size=48",
    "data.train_images=48",
    "data.validation_images=12",
    "data.test_images=6",
]
TRAINER = [f"trainer.epochs={EPOCHS}", "trainer.batch_size=8", "trainer.deterministic=true"]
GRID = ["-m", *DATA, *TRAINER, "reg=l2,dropout", "seed=0,1", "hydra.launcher.n_jobs=2", "hydra.launcher.retries=0"]
SEARCH = [
    *["-m", "hydra/sweeper=optuna", *DATA, *TRAINER, "reg.l2=tag(log,interval(1e-4,1e-1))"],
    *["hydra.sweeper.n_trials=4", "hydra.sweeper.n_jobs=2", "hydra/sweeper/pruner=none"],
    *["confirm.top=1", "confirm.seeds=1"],
]
JOBS = 4
"""Jobs of a grid, and trials of a search."""


def main() -> None:
    """Play the rounds and print the result of each."""
    parser = measure.make_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--kills", type=int, default=2, help="at most, per round of a grid; 1 for a search")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    random.seed(options.seed)
    kills: Counter[str] = Counter()
    failed = 0
    latest = {"grid": 45.0, "search": 45.0}
    rounds = 0
    while rounds < options.rounds:
        folder = Path(tempfile.mkdtemp(prefix="kills-"))
        kind, words = [("grid", GRID), ("search", SEARCH)][rounds % 2]
        most = options.kills if kind == "grid" else 1  # a trial whose process died is retried once, not twice
        killed = play(words, folder, most, latest, kind)
        rounds += bool(killed)
        kills.update(killed)
        name = f"round {rounds} ({kind}), killed {', '.join(killed)}" if killed else f"{kind} ended before its kill"
        failed += not report_round(name, folder, search=kind == "search")
    print(f"{rounds} rounds, {sum(kills.values())} kills ({dict(kills)}), {failed} failed")
    sys.exit(1 if failed else 0)


def report_round(name: str, folder: Path, search: bool) -> bool:
    """Print whether the stores in `folder` are as they must be, and return it; the folder is deleted if they are."""
    problems = find_problems(folder, search)
    print(f"{name}: {'; '.join(problems) or 'complete'}", flush=True)
    if problems:
        print(f"  kept: {folder}")
    else:
        shutil.rmtree(folder)
    return not problems


def play(words: list[str], folder: Path, most: int, latest: dict[str, float], kind: str) -> list[str]:
    """Start the sweep and kill it up to `most` times, then run it to its end; return the targets that were killed.

    `latest` is the last moment, in seconds after its start, at which a sweep of each kind still runs.
    """
    killed = []
    for _ in range(random.randint(1, most)):
        process = measure.start_product(words, folder, folder / "log")
        started = time.monotonic()
        if not still_runs(process, random.uniform(3, latest[kind])):
            latest[kind] = min(latest[kind], max(4.0, 0.9 * (time.monotonic() - started)))
            break
        target = random.choice(["workers", "parent", "both"])
        kill(process, target)
        killed.append(target)
        process.wait()
    for _ in range(3):  # a sweep whose workers were killed ends on its own, with status 1
        if measure.start_product(words, folder, folder / "log").wait(600) == 0:
            break
    return killed


def still_runs(process: "subprocess.Popen[bytes]", seconds: float) -> bool:
    """Return whether `process` still runs after `seconds`."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return True
    return False


def kill(process: "subprocess.Popen[bytes]", target: str) -> None:
    parent = psutil.Process(process.pid)
    workers = job_processes(parent)
    for victim in [*(workers if target != "parent" else []), *([parent] if target != "workers" else [])]:
        try:
            victim.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
    if target == "workers":
        time.sleep(1)


def find_problems(folder: Path, search: bool) -> list[str]:
    """Return the problems in the stores that a sweep left in `folder`."""
    databases = [folder / "mlruns" / name for name in ("mlflow.db", *(["optuna.db"] if search else []))]
    problems = [f"{file.name} is damaged" for file in databases if not is_intact(file)]
    jobs = JOBS + search
    with stores.store_of(folder) as client:
        runs = stores.search_runs(client)
        finished = stores.finished_jobs(runs)
        if sorted(stores.trainings(runs).values()) != [1] * jobs:
            problems.append(f"{len(finished)} finished runs of {jobs} jobs")
        problems += stores.open_or_orphaned(runs)
        problems += [problem for run in finished for problem in stores.wrong_steps(client, run, EPOCHS)]
    return problems + (trial_problems(databases[1]) if search else [])


def is_intact(file: Path) -> bool:
    with sqlite3.connect(file) as connection:
        return bool(connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok")


def trial_problems(file: Path) -> list[str]:
    states = stores.trial_states(f"sqlite:///{file}")
    return [] if states["COMPLETE"] == JOBS and states["RUNNING"] == 0 else [f"trials are {dict(states)}"]


if __name__ == "__main__":
    main()
