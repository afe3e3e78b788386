"""One search on several machines: what one study on one Postgres loses to its workers' meeting there.

Each worker is the same command, in a folder of its own with caches of its own, as on a machine of its own; study and
runs are on one Postgres (Debian's, started for it), the runs through one MLflow server. One worker is killed (SIGKILL,
its jobs too) on the way. Then the study and the runs are looked at: exactly the wanted trials finished, none twice,
nothing left open.

    python benchmarks/machines.py                            # 4 workers, 40 trials: some ten minutes on two cores
    python benchmarks/machines.py --workers 2 --trials 6

The ideal is the processor time that was used meanwhile, on all cores at once: run it on an idle machine. Ends with
status 1 if a trial is missing.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.servers import mlflow_server, postgres

SEARCH = [
    *["-m", "hydra/sweeper=optuna", "data=synthetic", "data.image_size=32", "data.train_images=12"],
    *["data.validation_images=6", "data.test_images=6", "trainer.epochs=2", "trainer.batch_size=6", "confirm.top=0"],
    *["hydra/sweeper/sampler=random", "reg.l2=tag(log,interval(1e-5,1e-1))", "tracking.save_model=none"],
]


@dataclass(frozen=True)
class Shared:
    """What came of a search that workers shared."""

    wall: float
    """Seconds from the first start to the last end."""
    ideal: float
    """Seconds of processor time, divided by the cores."""
    statuses: list[int]
    problems: list[str]


def share(folder: Path, workers: int, trials: int, kill_after: float | None) -> Shared:
    """Run one search with `workers` workers; the first one is killed after `kill_after` seconds."""
    with postgres() as database, mlflow_server(folder, f"{database}/mlflow") as server:
        storage = f"{database}/optuna"
        words = [*SEARCH, f"hydra.sweeper.n_trials={trials}", f"hydra.sweeper.storage={storage}"]
        words += ["tracking=server", f"tracking.uri={server.address}"]
        used = _processor_seconds()
        started = time.monotonic()
        processes = [_start(folder / f"machine-{number}", words) for number in range(workers)]
        if kill_after is not None:
            time.sleep(kill_after)
            os.killpg(processes[0].pid, signal.SIGKILL)
        statuses = [process.wait(3600) for process in processes]
        wall = time.monotonic() - started
        ideal = (_processor_seconds() - used) / len(os.sched_getaffinity(0))
        return Shared(wall, ideal, statuses, look(storage, server.address, trials))


def _start(folder: Path, words: list[str]) -> "subprocess.Popen[bytes]":
    folder.mkdir()
    variables = os.environ | {"XDG_CACHE_HOME": str(folder / "cache")}
    command = [sys.executable, "-m", "beans_exp", *words]
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(command, cwd=folder, env=variables, stdout=log, stderr=log, start_new_session=True)


def _processor_seconds() -> float:
    """What all processes of this machine have used: jobs are no children of this one."""
    spent = psutil.cpu_times()
    return spent.user + spent.nice + spent.system


def look(storage: str, server: str, trials: int) -> list[str]:
    """Return what is wrong with the study and the runs."""
    import mlflow
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    (name,) = (name for name in optuna.get_all_study_names(storage) if not name.endswith(".confirmation"))
    every = optuna.load_study(study_name=name, storage=storage).trials
    states = Counter(trial.state.name for trial in every if "beans.retried" not in trial.user_attrs)
    problems = [] if states == {"COMPLETE": trials} else [f"trials are {dict(states)}, wanted {trials} complete"]
    client = mlflow.MlflowClient(server)
    experiment = client.get_experiment_by_name("beans_exp")
    assert experiment is not None
    runs = list(client.search_runs([experiment.experiment_id], max_results=1000))
    parents = [run for run in runs if run.data.tags.get("beans.role") == "sweep"]
    finished = Counter(
        run.data.tags["beans.fingerprint"] for run in runs if run.info.status == "FINISHED" and run not in parents
    )
    problems += [f"{len(parents)} parents"] if len(parents) != 1 else []
    problems += [f"{mark} was trained {count} times" for mark, count in finished.items() if count > 1]
    problems += [f"run {run.info.run_id} is RUNNING" for run in runs if run.info.status == "RUNNING"]
    return problems


def main() -> None:
    """Print what sharing a search costs, and whether it held."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--kill-after", type=float, default=60.0, help="seconds until the first worker is killed")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="machines-"))
    found = share(folder, options.workers, options.trials, options.kill_after)
    cores = len(os.sched_getaffinity(0))
    print(
        f"{options.trials} trials by {options.workers} workers, one killed: {found.wall:.0f} s; exit {found.statuses}"
    )
    print(f"ideal {found.ideal:.0f} s on {cores} cores: ratio {found.wall / found.ideal:.2f} (goal 1.3)")
    print("; ".join(found.problems) or "every trial once")
    sys.exit(1 if found.problems else 0)


if __name__ == "__main__":
    main()
