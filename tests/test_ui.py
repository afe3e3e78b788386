"""`python -m beans_exp.ui` over MLflow's own server, one for the module."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import mlflow
import psutil
import pytest
from mlflow.entities import Metric

from beans_exp.errors import BeansExpError
from beans_exp.schema import TrackingConfig
from beans_exp.tracking import pages
from beans_exp.tracking.store import open_store, store_uri, ui_hint
from beans_exp.ui import server
from beans_exp.ui.__main__ import main
from tests.servers import Ui, free_port, ui
from tests.trained import error_of

pytestmark = pytest.mark.xdist_group("ui")

SWEEP = "f00dfeedf00dfeed"
Output = pytest.CaptureFixture[str]


@dataclass(frozen=True)
class Served:
    """A store with a sweep of two runs and a run in another experiment, and the server that shows it."""

    folder: Path
    ui: Ui
    parent: str
    runs: list[str]
    other: str
    experiments: list[str]

    @property
    def store(self) -> str:
        return f"sqlite:///{self.folder}/mlruns/mlflow.db"


def _run(client: mlflow.MlflowClient, experiment: str, name: str, **tags: str) -> str:
    run_id = str(client.create_run(experiment, run_name=name, tags=tags).info.run_id)
    client.log_batch(run_id, metrics=[Metric("val/accuracy", 0.1 * epoch, 0, epoch) for epoch in (1, 2)])
    client.set_terminated(run_id)
    return run_id


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("ui")
    store = f"sqlite:///{folder}/mlruns/mlflow.db"
    experiments = [open_store(store, name) for name in ("beans_exp", "others")]
    client = mlflow.MlflowClient(store)
    tags = {"beans.sweep": SWEEP, "beans.role": "sweep"}
    parent = client.create_run(experiments[0], run_name="reg=none,l2", tags=tags).info.run_id
    children = {"mlflow.parentRunId": parent, "beans.sweep": SWEEP}
    runs = [_run(client, experiments[0], name, **children) for name in ("reg=none", "reg=l2")]
    client.create_run(experiments[0], run_name="failed", tags=children)  # without a curve
    other = _run(client, experiments[1], "seed=1")
    client.log_text(other, "a note", "note.txt")
    with ui(folder) as shown:
        yield Served(folder, shown, parent, runs, other, experiments)


def _get(address: str) -> str:
    with urllib.request.urlopen(address, timeout=30) as response:
        return str(response.read().decode())


def test_the_store_of_this_folder_is_served(served: Served) -> None:
    assert served.ui.first == f"serving {served.folder}/mlruns/mlflow.db at {served.ui.address} until Ctrl-C"
    place = f"/#/experiments/{served.experiments[0]}/runs?workflowType=machine_learning"
    assert served.ui.pages == {"experiment beans_exp": served.ui.address + place}
    assert "<title>MLflow</title>" in _get(served.ui.address)
    assert _get(f"{served.ui.address}/get-artifact?path=note.txt&run_uuid={served.other}") == "a note"


def test_the_server_is_on_loopback_with_one_worker_and_no_job_runner(served: Served) -> None:
    processes = psutil.Process(served.ui.process.pid).children(recursive=True)
    assert len(processes) == 2, "MLflow's command and its worker"
    listening = [
        found.laddr for process in processes for found in process.net_connections() if found.status == "LISTEN"
    ]
    assert set(listening) == {("127.0.0.1", urlsplit(served.ui.address).port)}


def _shown(served: Served, output: Output, *words: str) -> dict[str, str]:
    """The titles and paths that the command prints for the server's address."""
    assert main(["--tracking-uri", served.ui.address, *words]) == 0
    lines = output.readouterr().out.splitlines()
    return {title: place for title, _, place in (line.partition(f": {served.ui.address}") for line in lines)}


def _query(path: str) -> dict[str, object]:
    """The values of a path's query, which MLflow's interface reads as JSON."""
    query = parse_qs(path.partition("?")[2])
    return {key: json.loads(values[0]) for key, values in query.items() if key != "x_axis"}


def test_an_experiment_by_its_name(served: Served, output: Output) -> None:
    shown = _shown(served, output, "--experiment", "others")
    assert shown == {"experiment others": f"/#/experiments/{served.experiments[1]}/runs?workflowType=machine_learning"}


def test_a_run_by_the_beginning_of_its_id(served: Served, output: Output) -> None:
    shown = _shown(served, output, served.other[:8])
    assert shown == {"run seed=1": f"/#/experiments/{served.experiments[1]}/runs/{served.other}"}


@pytest.mark.parametrize("own_id", [True, False], ids=["its own id", "its parent run's id"])
def test_a_sweep_and_its_runs_on_one_chart(own_id: bool, served: Served, output: Output) -> None:
    shown = _shown(served, output, SWEEP[:8] if own_id else served.parent[:8])
    parent, curves, compared = shown.values()
    assert next(iter(shown)) == "sweep reg=none,l2"
    assert parent == f"/#/experiments/{served.experiments[0]}/runs/{served.parent}"
    assert curves.startswith("/#/metric?") and compared.startswith("/#/compare-runs?")
    both = {"runs": served.runs, "experiments": served.experiments[:1]}
    assert _query(compared) == both
    assert _query(curves) == {**both, "metric": "val/accuracy", "plot_metric_keys": ["val/accuracy"]}


def test_runs_of_several_experiments_and_sweeps_are_compared_once_each(served: Served, output: Output) -> None:
    shown = _shown(served, output, served.other, SWEEP, served.runs[0][:8])
    assert list(shown) == ["val/accuracy of 3 runs by epoch", "parameters and metrics of 3 runs"]
    for path in shown.values():
        assert _query(path)["runs"] == [served.other, *served.runs]
        assert _query(path)["experiments"] == sorted(served.experiments)


def test_a_store_without_the_usual_experiment_shows_all(output: Output) -> None:
    uri = store_uri(TrackingConfig())
    open_store(uri, "mine")
    assert pages.experiment_page(uri, None).path == "/#/experiments?workflowType=machine_learning"


def test_the_first_address_is_opened(served: Served, output: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    _shown(served, output, served.other, "--open")
    assert opened == [f"{served.ui.address}/#/experiments/{served.experiments[1]}/runs/{served.other}"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ffffffff"], "there is no run or sweep ffffffff"),
        (["a'b"], "there is no run or sweep a'b"),
        (["--experiment", "nothing"], "has no experiment nothing. It has beans_exp, others"),
        (["--port", "5001"], "--port=5001: must be left out for a server"),
    ],
)
def test_what_does_not_exist_is_one_message(words: list[str], message: str, served: Served, output: Output) -> None:
    written = ["--tracking-uri", served.ui.address, *words]
    assert message in error_of(written, output, main).replace("Default, ", "")


def test_more_runs_than_mlflow_compares_are_refused(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "MOST_RUNS", 1)
    client = mlflow.MlflowClient(served.store)
    with pytest.raises(BeansExpError, match="2 runs: MLflow compares at most 1"):
        pages.run_pages(client, served.store, served.runs)


def test_a_taken_port_is_replaced_unless_it_was_chosen() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(BeansExpError, match=rf"--port={port}: must be a free port \(Address already in use\)"):
            server.choose_port(port)
    assert server.choose_port(port) == port
    with socket.socket() as taken:
        if server.choose_port(None) == server.PORT:
            taken.bind(("127.0.0.1", server.PORT))
            taken.listen()
        assert server.choose_port(None) != server.PORT
    with pytest.raises(BeansExpError, match="--port=70000"):
        server.choose_port(70000)


def _newer(file: Path) -> None:
    with sqlite3.connect(file) as database:
        database.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
    database.close()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_newer, "another version of MLflow wrote it"),
        (Path.unlink, "there is no store"),
        (lambda file: file.write_text("text"), "is not an SQLite database"),
    ],
    ids=["newer", "missing", "foreign"],
)
def test_an_unusable_store_is_one_message(
    damage: Callable[[Path], object], message: str, served: Served, output: Output, tmp_path: Path
) -> None:
    (tmp_path / "mlruns").mkdir()
    file = _copy(served, tmp_path)
    damage(file)
    assert message in error_of([], output, main)


def test_a_locked_store_is_one_message(served: Served, output: Output, tmp_path: Path) -> None:
    file = _copy(served, tmp_path)
    database = sqlite3.connect(file, isolation_level=None)
    database.execute("BEGIN EXCLUSIVE")
    try:
        assert "another program holds a lock on it" in error_of([], output, main)
    finally:
        database.close()


def _copy(served: Served, folder: Path) -> Path:
    """A copy of the store in `folder`; MLflow checks each store once per process."""
    file = folder / "mlruns" / "mlflow.db"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes((served.folder / "mlruns" / "mlflow.db").read_bytes())
    return file


@pytest.mark.parametrize(
    ("number", "until"), [(signal.SIGINT, "until Ctrl-C"), (signal.SIGTERM, "")], ids=["Ctrl-C", "kill at the start"]
)
def test_a_signal_ends_the_server_and_its_processes(
    number: signal.Signals, until: str, served: Served, tmp_path: Path
) -> None:
    """Ctrl-C when the server is ready, and a plain `kill` while it starts."""
    port = free_port()
    words = [sys.executable, "-m", "beans_exp.ui", "--tracking-uri", served.store, "--port", str(port)]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log)
    mine = psutil.Process(process.pid)
    while not (children := mine.children(recursive=True)) or until not in (tmp_path / "log").read_text():
        assert process.poll() is None, (tmp_path / "log").read_text()
        time.sleep(0.1)
    os.kill(process.pid, number)
    assert process.wait(60) == 0
    assert "Traceback" not in (tmp_path / "log").read_text() and "rror" not in (tmp_path / "log").read_text()
    assert psutil.wait_procs(children, 10)[1] == []
    with socket.socket() as found:
        found.bind(("127.0.0.1", port))


def test_a_server_that_ends_is_one_message(served: Served, output: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "QUIET", "--no-such-option")
    written = ["--tracking-uri", served.store, "--port", str(free_port())]
    assert "MLflow's server ended: " in error_of(written, output, main)


def test_a_sweep_ends_with_the_command_that_shows_it() -> None:
    uri = store_uri(TrackingConfig())
    assert ui_hint(uri, "1", SWEEP) == "show it in a browser with python -m beans_exp.ui f00dfeed"
    other = ui_hint("sqlite:////else/where.db", "1", SWEEP)
    assert other.endswith("python -m beans_exp.ui f00dfeed --tracking-uri sqlite:////else/where.db")
    assert ui_hint("http://host:1/", "1", SWEEP).startswith("open http://host:1/#/experiments/1/runs")


@pytest.fixture
def output(capsys: Output) -> Output:
    return capsys
