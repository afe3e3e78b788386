"""Sweeps that are killed at random moments and run again: does every one end with exactly its jobs, and nothing else?

Each round starts a grid, or a search, of small jobs on drawn leaves, kills its workers, its parent or both with SIGKILL
at a random moment, a few times over, and runs the same command to its end. A sweep that ended before its moment came
is no round, and tells how long the next ones take at most. Then MLflow and Optuna are looked at:

- one parent run, and one FINISHED run for each job, that which confirms a search's winner included
- no run RUNNING
- every epoch of every metric once, without a gap
- both databases whole (`PRAGMA integrity_check`), and in a search exactly `n_trials` trials that count

    python benchmarks/kills.py                     # 20 rounds, some twenty minutes on two cores
    python benchmarks/kills.py --rounds 2 --seed 7

Ends with status 1 if a round does not hold; its folder is kept then. Linux only.
"""

import argparse
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
"""Of a grid, and trials of a search."""


def main() -> None:
    """Play the rounds and print what came of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--kills", type=int, default=2, help="at most, in a round; once in that of a search")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    random.seed(options.seed)
    kills: Counter[str] = Counter()
    broken = 0
    latest = {"grid": 45.0, "search": 45.0}
    rounds = 0
    while rounds < options.rounds:
        folder = Path(tempfile.mkdtemp(prefix="kills-"))
        kind, words = [("grid", GRID), ("search", SEARCH)][rounds % 2]
        most = options.kills if kind == "grid" else 1  # a trial that died is tried once more, not twice
        what = play(words, folder, most, latest, kind)
        rounds += bool(what)
        kills.update(what)
        problems = look(folder, search=words is SEARCH)
        broken += bool(problems)
        done = f"round {rounds} ({kind}), killed {', '.join(what)}" if what else f"a {kind} that was too fast"
        print(f"{done}: {'; '.join(problems) or 'whole'}", flush=True)
        if problems:
            print(f"  kept: {folder}")
        else:
            shutil.rmtree(folder)
    print(f"{rounds} rounds, {sum(kills.values())} kills ({dict(kills)}), {broken} broken")
    sys.exit(1 if broken else 0)


def play(words: list[str], folder: Path, most: int, latest: dict[str, float], kind: str) -> list[str]:
    """Start the sweep and kill it up to `most` times; run it to its end; return what was killed.

    `latest` holds the last moment, in seconds after its start, at which a sweep of each kind is still there.
    """
    killed = []
    for _ in range(random.randint(1, most)):
        process = start(words, folder)
        started = time.monotonic()
        if not wait(process, random.uniform(3, latest[kind])):
            latest[kind] = min(latest[kind], max(4.0, 0.9 * (time.monotonic() - started)))
            break
        target = random.choice(["workers", "parent", "both"])
        kill(process, target)
        killed.append(target)
        process.wait()
    for _ in range(3):  # a sweep whose workers were killed ends by itself, with status 1
        process = start(words, folder)
        if process.wait(600) == 0:
            break
    return killed


def start(words: list[str], folder: Path) -> "subprocess.Popen[bytes]":
    log = (folder / "log").open("ab")
    return subprocess.Popen([sys.executable, "-m", "beans_exp", *words], cwd=folder, stdout=log, stderr=log)


def wait(process: "subprocess.Popen[bytes]", seconds: float) -> bool:
    """Return whether `process` is still there after `seconds`."""
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


def look(folder: Path, search: bool) -> list[str]:
    """Return what is wrong with what the sweep left behind."""
    import mlflow

    store = folder / "mlruns" / "mlflow.db"
    databases = [store, *([store.with_name("optuna.db")] if search else [])]
    problems = [f"{file.name} is damaged" for file in databases if not is_whole(file)]
    client = mlflow.MlflowClient(f"sqlite:///{store}")
    experiment = client.get_experiment_by_name("beans_exp")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    parents = [run for run in runs if run.data.tags.get("beans.role") == "sweep"]
    finished = [run for run in runs if run.info.status == "FINISHED" and run not in parents]
    marks = Counter(run.data.tags["beans.fingerprint"] for run in finished)
    problems += [f"{len(parents)} parents"] if len(parents) != 1 else []
    jobs = JOBS + search
    problems += [f"{len(finished)} finished runs of {jobs} jobs"] if sorted(marks.values()) != [1] * jobs else []
    problems += [f"run {run.info.run_id} is RUNNING" for run in runs if run.info.status == "RUNNING"]
    for run in finished:
        problems += steps_wrong(client, run)
    return problems + (trials_wrong(databases[1]) if search else [])


def is_whole(file: Path) -> bool:
    with sqlite3.connect(file) as connection:
        return bool(connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok")


def steps_wrong(client: object, run: object) -> list[str]:
    """Return the metrics of `run` that have a step twice, or lack one."""
    wrong = []
    for name in run.data.metrics:  # type: ignore[attr-defined]
        history = client.get_metric_history(run.info.run_id, name)  # type: ignore[attr-defined]
        steps = sorted(point.step for point in history)
        by_epoch = name.startswith(("train/", "val/")) or name in ("stage", "time/epoch_seconds")
        if steps != (list(range(1, EPOCHS + 1)) if by_epoch else [0]):
            wrong.append(f"{name} of run {run.info.run_id} has steps {steps}")  # type: ignore[attr-defined]
    return wrong


def trials_wrong(file: Path) -> list[str]:
    import optuna

    (name,) = optuna.get_all_study_names(f"sqlite:///{file}")
    trials = optuna.load_study(study_name=name, storage=f"sqlite:///{file}").trials
    states = Counter(trial.state.name for trial in trials if "beans.retried" not in trial.user_attrs)
    return [] if states["COMPLETE"] == JOBS and states["RUNNING"] == 0 else [f"trials are {dict(states)}"]


if __name__ == "__main__":
    main()
