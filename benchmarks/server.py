"""Capacity of one MLflow server on one Postgres: clients log epochs at once, as fast as it answers.

Clients are threads, four to a process, each with its own connection; one request is the update that a run sends per
epoch (a batch of eight metrics). Printed: requests per second, median and 99th percentile of their time, errors, and
the number of runs with one epoch every five seconds that this supports.

    python benchmarks/server.py                        # 16 clients for 60 seconds
    python benchmarks/server.py --clients 4 --seconds 10
"""

import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from benchmarks import measure
from tests.servers import mlflow_server, postgres

THREADS = 4
METRICS = [f"{part}/{name}" for part in ("train", "val") for name in ("loss", "accuracy", "cross_entropy", "seconds")]
EPOCH_SECONDS = 5.0


def main() -> None:
    """Start the server and the clients, and print throughput and latency."""
    parser = measure.make_parser(__doc__)
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
    clients = f"{processes * THREADS} clients, sharing {measure.cores()} cores with the server"
    print(f"{clients}: {rate:.0f} requests per second, {len(errors)} errors")
    print(f"median {1000 * middle:.0f} ms, 99th percentile {1000 * slow:.0f} ms")
    print(f"enough for {rate * EPOCH_SECONDS:.0f} runs with an epoch every {EPOCH_SECONDS:g} seconds")
    print("\n".join(sorted(set(errors))))


def log_epochs(address: str, seconds: float) -> tuple[list[float], list[str]]:
    """Log epochs with `THREADS` clients; return the seconds of each request, and the errors."""
    import mlflow

    times: list[float] = []
    errors: list[str] = []
    ready = threading.Barrier(THREADS)

    def client() -> None:
        connection = mlflow.MlflowClient(address)
        run_id = connection.create_run("0").info.run_id
        ready.wait()
        ends, step = time.monotonic() + seconds, 0
        while time.monotonic() < ends:
            step += 1
            now = int(1000 * time.time())
            points = [mlflow.entities.Metric(name, 0.5, now, step) for name in METRICS]
            began = time.perf_counter()
            try:
                connection.log_batch(run_id, points)
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
