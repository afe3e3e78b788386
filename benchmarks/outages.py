"""A server that is killed and started again while runs log to it: does everything arrive, once, and what does it cost?

The same runs on drawn leaves twice, on one MLflow server: undisturbed, then with the server killed (SIGKILL) and
started again at random moments. What is left at the end is sent by `python -m beans_exp.sync`. Then every run is
looked at: each epoch of each metric once, every artifact and the model there. Compared is the time of the training
epochs themselves.

    python benchmarks/outages.py                       # 20 runs, 10 outages: some ten minutes on two cores
    python benchmarks/outages.py --runs 4 --outages 3

Ends with status 1 if something is missing or there twice.
"""

import argparse
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from tests.servers import Restartable, mlflow_server

EPOCHS = 30
WORDS = [
    *["-m", "data=synthetic", "data.image_size=48", "data.train_images=192", "data.validation_images=12"],
    *["data.test_images=6", f"trainer.epochs={EPOCHS}", "trainer.batch_size=8", "hydra/launcher=basic"],
    *["tracking=server", "tracking.offline=true"],
]
ARTIFACTS = {
    "config.yaml",
    "overrides.yaml",
    "curves.png",
    "confusion_matrix.png",
    "predictions.csv",
    "model_summary.txt",
}
GOAL = 1.05


def main() -> None:
    """Run both sides, print what they cost, and whether everything arrived."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--outages", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    random.seed(options.seed)
    folder = Path(tempfile.mkdtemp(prefix="outages-"))
    with mlflow_server(folder) as server:
        whole = grid(folder, server, "undisturbed", options.runs, outages=0)
        broken = grid(folder, server, "disturbed", options.runs, options.outages)
        problems = [problem for name in ("undisturbed", "disturbed") for problem in look(server, name, options.runs)]
        times = [training_seconds(server, name) for name in ("undisturbed", "disturbed")]
    print(f"{options.runs} runs: {whole:.0f} s undisturbed, {broken:.0f} s with {options.outages} outages")
    print(f"training alone: {times[0]:.1f} and {times[1]:.1f} s, ratio {times[1] / times[0]:.3f} (goal {GOAL})")
    print("; ".join(problems) or "everything is there, once")
    sys.exit(1 if problems else 0)


def grid(folder: Path, server: Restartable, experiment: str, runs: int, outages: int) -> float:
    """Train the runs while the server is away `outages` times; return the seconds until all was sent."""
    started = time.monotonic()
    words = [*WORDS, f"seed=range({runs})", f"tracking.uri={server.address}", f"tracking.experiment={experiment}"]
    log = (folder / f"{experiment}.log").open("wb")
    process = subprocess.Popen([sys.executable, "-m", "beans_exp", *words], cwd=folder, stdout=log, stderr=log)
    trouble = threading.Thread(target=disturb, args=(server, process, outages))
    trouble.start()
    status = process.wait()
    trouble.join()
    subprocess.run([sys.executable, "-m", "beans_exp.sync"], cwd=folder, check=True, stdout=log, stderr=log)
    if status:
        print(f"the {experiment} sweep ended with status {status}: {folder}/{experiment}.log")
    return time.monotonic() - started


def disturb(server: Restartable, process: "subprocess.Popen[bytes]", outages: int) -> None:
    """Kill the server and start it again, at random moments."""
    for _ in range(outages):
        time.sleep(random.uniform(5, 20))
        if process.poll() is not None:
            print("the runs ended before all outages were played")
            return
        server.stop()
        time.sleep(random.uniform(0, 8))
        server.start()


def look(server: Restartable, experiment: str, wanted: int) -> list[str]:
    """Return what is missing in, or twice in, the runs of an experiment."""
    import mlflow

    client = mlflow.MlflowClient(server.address)
    found = runs_of(client, experiment)
    problems = [f"{experiment}: {len(found)} finished runs of {wanted}"] if len(found) != wanted else []
    for run in found:
        for name in run.data.metrics:
            steps = sorted(point.step for point in client.get_metric_history(run.info.run_id, name))
            by_epoch = name.startswith(("train/", "val/")) or name in ("stage", "time/epoch_seconds")
            if steps != (list(range(1, EPOCHS + 1)) if by_epoch else [0]):
                problems.append(f"{name} of run {run.info.run_id} has steps {steps}")
        if missing := ARTIFACTS - {item.path for item in client.list_artifacts(run.info.run_id)}:
            problems.append(f"run {run.info.run_id} lacks {', '.join(sorted(missing))}")
        if not run.outputs.model_outputs:
            problems.append(f"run {run.info.run_id} has no model")
    return problems


def runs_of(client: Any, experiment: str) -> list[Any]:
    """The finished runs of an experiment, without its sweeps."""
    known = client.get_experiment_by_name(experiment)
    found = client.search_runs([known.experiment_id], "attributes.status = 'FINISHED'", max_results=1000)
    return [run for run in found if "beans.role" not in run.data.tags]


def training_seconds(server: Restartable, experiment: str) -> float:
    """Return the seconds of all epochs of all runs, without each run's first one, which traces the step."""
    import mlflow

    client = mlflow.MlflowClient(server.address)
    histories = [
        client.get_metric_history(run.info.run_id, "time/epoch_seconds") for run in runs_of(client, experiment)
    ]
    return float(sum(point.value for points in histories for point in points if point.step > 1))


if __name__ == "__main__":
    main()
