"""What one MLflow server on one Postgres carries: clients that log epochs at once, as fast as they are answered.

Each client is a thread with a client of its own, four to a process; one request is what a run sends for an epoch (a
batch of eight metrics). Printed: requests a second, the median and the 99th percentile of their time, errors, and how
many runs with an epoch every five seconds that is.

    python benchmarks/server.py                        # 16 clients for 60 seconds
    python benchmarks/server.py --clients 4 --seconds 10
"""

import argparse
import os
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from tests.servers import mlflow_server, postgres

THREADS = 4
METRICS = [f"{part}/{name}" for part in ("train", "val") for name in ("loss", "accuracy", "cross_entropy", "seconds")]
EPOCH_SECONDS = 5.0


def main() -> None:
    """Start the server, let the clients log, and print what they saw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="server-"))
    with postgres() as database, mlflow_server(folder, f"{database}/mlflow") as server:
        processes = max(1, options.clients // THREADS)
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
            futures = [pool.submit(log_epochs, server.address, options.seconds) for _ in range(processes)]
            answers = [future.result() for future in futures]
    times = np.concatenate([times for times, _ in answers])
    errors = [error for _, some in answers for error in some]
    rate = len(times) / options.seconds
    middle, slow = np.percentile(times, [50, 99])
    cores = len(os.sched_getaffinity(0))
    print(f"{processes * THREADS} clients, {cores} cores for all: {rate:.0f} requests a second, {len(errors)} errors")
    print(f"median {1000 * middle:.0f} ms, 99th percentile {1000 * slow:.0f} ms")
    print(f"that is {rate * EPOCH_SECONDS:.0f} runs with an epoch every {EPOCH_SECONDS:g} seconds")
    print("\n".join(sorted(set(errors))))


def log_epochs(address: str, seconds: float) -> tuple[list[float], list[str]]:
    """Log epochs with `THREADS` clients; return the seconds that each request took, and the errors."""
    import mlflow

    times: list[float] = []
    errors: list[str] = []
    ready = threading.Barrier(THREADS)

    def client() -> None:
        own = mlflow.MlflowClient(address)
        run_id = own.create_run("0").info.run_id
        ready.wait()
        ends, step = time.monotonic() + seconds, 0
        while time.monotonic() < ends:
            step += 1
            now = int(1000 * time.time())
            points = [mlflow.entities.Metric(name, 0.5, now, step) for name in METRICS]
            began = time.perf_counter()
            try:
                own.log_batch(run_id, points)
                times.append(time.perf_counter() - began)
            except mlflow.MlflowException as error:
                errors.append(str(error)[:200])

    threads = [threading.Thread(target=client) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return times, errors


if __name__ == "__main__":
    main()
