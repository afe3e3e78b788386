"""Servers of a test's own, started by the words that the project prints."""

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SECONDS = 180
"""How long a server may take until it answers, on a machine that is busy."""


@contextmanager
def serving(command: str, folder: Path, ready: str) -> Iterator[str]:
    """Run the shell `command`, `NAME=VALUE… program …`, in `folder` on a free port; give its address.

    It counts as started once `ready`, a path of the server, is found. Afterwards it and its children are ended.
    """
    words = shlex.split(command)
    variables = dict(word.split("=", 1) for word in words if word.partition("=")[0].isupper())
    port = _free_port()
    program = [*(word for word in words if word.partition("=")[0] not in variables), "--port", str(port)]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # as in an environment that was entered
    log = folder / "server.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            program,
            cwd=folder,
            env=os.environ | variables | {"PATH": path},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            _wait_for(f"http://127.0.0.1:{port}{ready}", process, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(30)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _wait_for(address: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            assert process.poll() is None, log.read_text()
            time.sleep(0.2)
    raise TimeoutError(log.read_text())
