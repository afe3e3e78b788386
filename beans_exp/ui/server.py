"""MLflow's own server for a store on this machine: on loopback, one worker, without its job runner and telemetry."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import FrameType
from typing import IO

from beans_exp.errors import BeansExpError, StoreError
from beans_exp.terminal import open_console

LOOPBACK = "127.0.0.1"
PORT = 5000
VARIABLES = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
"""Without the job runner, which only GenAI evaluation needs: 2 processes instead of 15."""
QUIET = "--log-level warning --timeout-graceful-shutdown 2"
"""Options of the web server inside: no line per request, and open pages do not delay its end."""
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
STOP_SECONDS = 10
"""Time that the server has to end before it is killed."""
POLL_SECONDS = 0.2


def choose_port(wanted: int | None) -> int:
    """Return the port `wanted`; without one 5000, or a free port if 5000 is taken.

    Raises BeansExpError for a port that is wanted but taken, or not permitted.
    """
    try:
        return _bind(PORT if wanted is None else wanted)
    except (OSError, OverflowError) as error:
        if wanted is None:
            return _bind(0)
        reason = getattr(error, "strerror", None) or error
        raise BeansExpError(f"--port={wanted}: must be a free port ({reason}). Leave it out to get one") from error


def serve(uri: str, folder: Path | None, port: int, show: Callable[[str], None]) -> None:
    """Serve the store at `uri` until Ctrl-C, SIGTERM or SIGHUP; call `show` with the address once it answers.

    `folder` is where experiments that are created in the browser put their artifacts; None leaves it to MLflow.
    Raises StoreError if the server ends by itself.
    """
    with _stop_signals() as received, _server(uri, folder, port) as server:
        with open_console(stderr=True).status("starting MLflow's server"):
            while not received and not server.answers():
                server.wait()
        if not received:
            show(server.address)
        while not received:
            server.wait()


def _bind(port: int) -> int:
    """Bind a socket to `port`, 0 for any free one, close it, and return the port."""
    with socket.socket() as found:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of an earlier server do not count
        found.bind((LOOPBACK, port))
        return int(found.getsockname()[1])


@contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """Yield the list of `STOP_SIGNALS` received so far; they no longer interrupt, so that no child process is lost."""
    received: list[int] = []

    def receive(number: int, _: FrameType | None) -> None:
        received.append(number)

    previous = {number: signal.signal(number, receive) for number in STOP_SIGNALS}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def _server(uri: str, folder: Path | None, port: int) -> "Iterator[_Server]":
    """Run the server, and end it and its children with the block."""
    store = ["--backend-store-uri", uri, *(["--default-artifact-root", str(folder)] if folder else [])]
    place = ["--host", LOOPBACK, "--port", str(port)]
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--uvicorn-opts", QUIET, *place, *store]
    with tempfile.TemporaryFile("w+") as log:
        # A session of its own: a terminal sends Ctrl-C to all processes of a session's group at once.
        process = subprocess.Popen(
            command,
            env=os.environ | VARIABLES,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            yield _Server(process, port, log)
        finally:
            _stop(process)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """End the process group of `process`: kindly, then by force."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(STOP_SECONDS)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


class _Server:
    """A running server."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int, log: IO[str]) -> None:
        self.process = process
        self.port = port
        self.address = f"http://{LOOPBACK}:{port}"
        self.log = log

    def answers(self) -> bool:
        """Whether the server is ready. Asked without the environment's proxy."""
        connection = HTTPConnection(LOOPBACK, self.port, timeout=5)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()

    def wait(self) -> None:
        """Wait for a moment; raise StoreError if the server ended."""
        time.sleep(POLL_SECONDS)
        if self.process.poll() is not None:
            self.log.seek(0)
            lines = [line.strip() for line in self.log if line.strip()]
            raise StoreError(
                f"MLflow's server ended: {lines[-1] if lines else f'exit status {self.process.returncode}'}"
            )
