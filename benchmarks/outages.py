"""A server that is killed and restarted while runs log to it: does everything arrive exactly once, and at what cost?

Trains the same runs on synthetic leaves twice on one MLflow server: undisturbed, then with the server killed (SIGKILL)
and restarted at random moments. `python -m beans_exp.sync` sends the rest at the end. Then every run must have each
epoch of each metric once, every artifact and its model. The time of the training epochs alone is compared.

    python benchmarks/outages.py                       # 20 runs, 10 outages: some ten minutes on two cores
    python benchmarks/outages.py --runs 4 --outages 3

Exits with status 1 if anything is missing or duplicated.
"""

import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks import measure, stores
from tests.servers import Restartable, mlflow_server
from tests.tracking.contract import ARTIFACTS

EPOCHS = 30
WORDS = [
    *["-m", "data=synthetic", "data.image_size=48", "data.train_images=192", "data.validation_images=12"],
    *["data.test_images=6", f"trainer.epochs={EPOCHS}", "trainer.batch_size=8", "hydra/launcher=basic"],
    *["tracking=server", "tracking.offline=true"],
]
GOAL = 1.05


def main() -> None:
    """Train both times, print the cost, and whether everything arrived."""
    parser = measure.make_parser(__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--outages", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    random.seed(options.seed)
    folder = Path(tempfile.mkdtemp(prefix="outages-"))
    with mlflow_server(folder) as server:
        calm = train(folder, server, "undisturbed", options.runs, outages=0)
        disturbed = train(folder, server, "disturbed", options.runs, options.outages)
        experiments = ("undisturbed", "disturbed")
        problems = [problem for name in experiments for problem in find_problems(server, name, options.runs)]
        times = [training_seconds(server, name) for name in experiments]
    print(f"{options.runs} runs: {calm:.0f} s undisturbed, {disturbed:.0f} s with {options.outages} outages")
    print(f"training alone: {times[0]:.1f} and {times[1]:.1f} s, ratio {times[1] / times[0]:.3f} (goal {GOAL})")
    print("; ".join(problems) or "everything arrived exactly once")
    sys.exit(1 if problems else 0)


def train(folder: Path, server: Restartable, experiment: str, runs: int, outages: int) -> float:
    """Train the runs during `outages` outages of the server; return the seconds until everything was sent."""
    started = time.monotonic()
    words = [*WORDS, f"seed=range({runs})", f"tracking.uri={server.address}", f"tracking.experiment={experiment}"]
    log_file = folder / f"{experiment}.log"
    process = measure.start_product(words, folder, log_file)
    disturber = threading.Thread(target=disturb, args=(server, process, outages))
    disturber.start()
    status = process.wait()
    disturber.join()
    with log_file.open("ab") as log:
        subprocess.run([sys.executable, "-m", "beans_exp.sync"], cwd=folder, check=True, stdout=log, stderr=log)
    if status:
        print(f"the {experiment} sweep ended with status {status}: {log_file}")
    return time.monotonic() - started


def disturb(server: Restartable, process: "subprocess.Popen[bytes]", outages: int) -> None:
    """Kill the server and restart it, at random moments."""
    for _ in range(outages):
        time.sleep(random.uniform(5, 20))
        if process.poll() is not None:
            print("the runs ended before the last outage")
            return
        server.stop()
        time.sleep(random.uniform(0, 8))
        server.start()


def find_problems(server: Restartable, experiment: str, runs: int) -> list[str]:
    """Return a problem for everything that is missing or duplicated in the runs of an experiment."""
    client, finished = open_finished(server, experiment)
    problems = [f"{experiment}: {len(finished)} finished runs of {runs}"] if len(finished) != runs else []
    for run in finished:
        problems += stores.wrong_steps(client, run, EPOCHS)
        if missing := ARTIFACTS - {item.path for item in client.list_artifacts(run.info.run_id)}:
            problems.append(f"run {run.info.run_id} lacks {', '.join(sorted(missing))}")
        if not run.outputs.model_outputs:
            problems.append(f"run {run.info.run_id} has no model")
    return problems


def open_finished(server: Restartable, experiment: str) -> tuple[Any, list[Any]]:
    """Return a client of the server, and the finished runs of an experiment without parent runs."""
    import mlflow

    client = mlflow.MlflowClient(server.address)
    return client, stores.finished_jobs(stores.search_runs(client, experiment))


def training_seconds(server: Restartable, experiment: str) -> float:
    """Return the seconds of all epochs of all runs, without the first epoch of each, which traces the step."""
    client, finished = open_finished(server, experiment)
    histories = [client.get_metric_history(run.info.run_id, "time/epoch_seconds") for run in finished]
    return float(sum(point.value for points in histories for point in points if point.step > 1))


if __name__ == "__main__":
    main()
