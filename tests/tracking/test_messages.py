"""Messages that several runs deliver at the same moment all reach the store."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import mlflow

from beans_exp.tracking.messages import Message, deliver
from beans_exp.tracking.store import open_store

RUNS, ROUNDS = 4, 20


def test_several_runs_can_log_a_new_data_set_at_the_same_moment(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    experiment = open_store(uri, "beans_exp")
    client = mlflow.MlflowClient(uri)
    runs = [client.create_run(experiment).info.run_id for _ in range(RUNS)]
    together = Barrier(RUNS)

    def log_data(run_id: str, number: int) -> None:
        content = {"name": "synthetic", "digest": str(number), "source_type": "code", "source": "{}"}
        together.wait()
        deliver(client, run_id, Message("data", content))

    with ThreadPoolExecutor(RUNS) as pool:
        for number in range(ROUNDS):
            list(pool.map(log_data, runs, [number] * RUNS))
    assert {len(client.get_run(run_id).inputs.dataset_inputs) for run_id in runs} == {ROUNDS}
