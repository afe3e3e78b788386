"""Commands in processes that are forked from a server, which has imported TensorFlow and MLflow: that takes seconds."""

import atexit
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver")
PRELOAD = ["beans_exp.startup.job", "beans_exp.sweep.search", "tests.stores"]
"""What the server imports: everything that a run, a grid or a search needs."""


@dataclass(frozen=True)
class Command:
    """`python -m MODULE WORDS` in `folder` with the variables `env`; its output is appended to two files."""

    module: str
    words: list[str]
    folder: Path
    env: dict[str, str]
    stdout: Path
    stderr: Path

    def run(self) -> None:
        """Run the command in this process, which is its own."""
        for number, file in enumerate((self.stdout, self.stderr), start=1):
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(descriptor, number)
            os.close(descriptor)
        os.chdir(self.folder)
        os.environ.clear()
        os.environ.update(self.env)
        tempfile.tempdir = None  # the server's
        sys.argv = [self.module, *self.words]
        try:
            runpy.run_module(self.module, run_name="__main__", alter_sys=True)
        finally:  # as at the end of a program; `multiprocessing` would first wait for the idle workers of Joblib
            threading._shutdown()  # type: ignore[attr-defined]
            atexit._run_exitfuncs()


def fork(target: Callable[..., object], *args: object) -> ForkServerProcess:
    """Start a process that calls `target`, forked from the server."""
    CONTEXT.set_forkserver_preload(PRELOAD)
    process = CONTEXT.Process(target=target, args=args)
    process.start()
    return process


class Forked:
    """A running command, with the methods of `subprocess.Popen` that tests need."""

    def __init__(self, command: Command) -> None:
        self.command = command
        self.process = fork(command.run)
        assert self.process.pid is not None
        self.pid = self.process.pid

    def poll(self) -> int | None:
        """Return the exit status, negative for a signal; None while it runs."""
        return self.process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit status once the command has ended."""
        self.process.join(timeout)
        if (status := self.poll()) is None:
            raise subprocess.TimeoutExpired(self.command.words, timeout or 0)
        return status

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, unless the command has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


Ended = subprocess.CompletedProcess[str]


def run_forked(
    *words: str, folder: Path, env: dict[str, str] | None = None, module: str = "beans_exp", timeout: float = 240
) -> Ended:
    """Run the command with the current variables and `env`; return its status and output."""
    with tempfile.TemporaryDirectory() as output:
        stdout, stderr = (Path(output) / name for name in ("stdout", "stderr"))
        forked = Forked(Command(module, list(words), folder, dict(os.environ) | (env or {}), stdout, stderr))
        try:
            status = forked.wait(timeout)
        finally:
            forked.kill()
        return Ended(words, status, stdout.read_text(), stderr.read_text())
