"""Locks of several processes: held by one, and named to those who wait."""

import logging
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from beans_exp.locks import find_holder, locked

FILE = Path("some.lock")
HOLD = """
import sys
from pathlib import Path
from beans_exp.locks import locked
with locked(Path(sys.argv[1]), "is testing"):
    print("held", flush=True)
    input()
"""


@pytest.fixture
def other() -> "Iterator[subprocess.Popen[str]]":
    """A process that holds the lock until it is told to let go."""
    command = [sys.executable, "-c", HOLD, str(FILE.absolute())]
    root = Path(__file__).parents[1]
    process = subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_free_lock_is_taken_in_silence(caplog: pytest.LogCaptureFixture) -> None:
    assert find_holder(FILE, "is testing") is None
    with locked(FILE, "is testing") as waited:
        assert not waited
    assert find_holder(FILE, "is testing") is None
    assert caplog.text == ""


def test_the_holder_is_named_to_those_who_wait(
    other: "subprocess.Popen[str]", caplog: pytest.LogCaptureFixture
) -> None:
    assert f"process {other.pid} on " in str(find_holder(FILE, "is testing"))
    other.send_signal(signal.SIGSTOP)
    named = threading.Event()

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            named.set()

    def let_go() -> None:
        named.wait(60)
        other.send_signal(signal.SIGCONT)
        assert other.stdin is not None
        other.stdin.write("\n")
        other.stdin.flush()

    listener = Listener()
    logging.getLogger("beans_exp").addHandler(listener)
    threading.Thread(target=let_go).start()
    try:
        with locked(FILE, "is testing", notice_seconds=0) as waited:
            assert waited
    finally:
        logging.getLogger("beans_exp").removeHandler(listener)
    [line] = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"waiting for process {other.pid} on ") and ", which is testing" in line
    assert f"stopped: kill -CONT {other.pid} lets it continue" in line


def test_a_lock_is_free_once_its_process_was_killed(other: "subprocess.Popen[str]") -> None:
    other.kill()
    other.wait()
    with locked(FILE, "is testing") as waited:
        assert not waited
