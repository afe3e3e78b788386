"""Processes are known by machine, boot, namespace, number and start, whatever the clock does."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from beans_exp.processes import describe, host_of, is_dead, this_process

NAME = "import time; from beans_exp.processes import this_process; print(this_process(), flush=True); time.sleep(600)"


@dataclass
class Other:
    """A process that sleeps, and its name."""

    process: "subprocess.Popen[str]"
    name: str


@pytest.fixture
def other() -> Iterator[Other]:
    root = Path(__file__).parents[1]
    process = subprocess.Popen([sys.executable, "-c", NAME], cwd=root, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield Other(process, process.stdout.readline().strip())
    process.kill()
    process.communicate()


def _renamed(name: str, **changes: str) -> str:
    fields = dict(zip(("host", "machine", "boot", "namespace", "number", "start"), name.split("/"), strict=True))
    return "/".join((fields | changes).values())


def test_a_process_is_alive_until_it_ends_and_even_before_it_is_waited_for(other: Other) -> None:
    assert not is_dead(this_process()) and not is_dead(other.name)
    os.kill(other.process.pid, signal.SIGKILL)
    for _ in range(100):
        if is_dead(other.name):
            break
        time.sleep(0.05)
    assert is_dead(other.name), "a zombie"
    other.process.wait()
    assert is_dead(other.name)


def test_a_number_that_was_given_to_another_process_is_not_the_same_process() -> None:
    assert is_dead(_renamed(this_process(), start="1"))
    assert is_dead(_renamed(this_process(), number="999999999"))


def test_setting_the_clock_kills_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    name = this_process()
    created = psutil.Process.create_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: created(self) + 86400)
    assert not is_dead(name) and this_process() == name


def test_nothing_survives_another_boot_of_its_machine() -> None:
    for namespace in (name := this_process()).split("/")[3], "4026532000":
        assert is_dead(_renamed(name, boot="another", namespace=namespace))


@pytest.mark.parametrize(
    "changes",
    [
        {"machine": "another", "boot": "another"},
        {"machine": "", "boot": "another"},
        {"namespace": "4026532000"},
    ],
    ids=["machine", "machine without an id", "namespace"],
)
def test_nothing_is_known_of_another(changes: dict[str, str]) -> None:
    assert not is_dead(_renamed(this_process(), number="999999999", **changes))


def test_a_host_may_be_renamed_while_its_processes_run(other: Other) -> None:
    assert is_dead(_renamed(other.name, host="old", number="999999999"))
    assert not is_dead(_renamed(other.name, host="old"))


def _old_name(number: int, started: float, **changes: str) -> str:
    """A name as earlier versions wrote it: host, boot, namespace, number, start in seconds."""
    host, _, boot, namespace, *_ = _renamed(this_process(), **changes).split("/")
    return f"{host}/{boot}/{namespace}/{number}/{started:.2f}"


def test_names_of_earlier_versions_are_read(other: Other) -> None:
    number, started = other.process.pid, psutil.Process(other.process.pid).create_time()
    assert not is_dead(_old_name(number, started))
    assert not is_dead(_old_name(number, started + 1)), "the clock was set"
    assert is_dead(_old_name(number, started - 7200)), "the number was given to another process"
    assert is_dead(_old_name(999999999, started))
    for changes in ({"host": "elsewhere"}, {"boot": "another"}, {"namespace": "1"}):
        assert not is_dead(_old_name(999999999, started, **changes))


@pytest.mark.parametrize("name", ["", "host", "a/b/c/d/e/f", "host/boot/1/number/2", "a/b/c/d/e/f/g"])
def test_nothing_is_known_of_what_is_not_a_name(name: str) -> None:
    assert not is_dead(name)
    assert describe(name, "sleeps") == "another process, which sleeps"


def test_a_stopped_process_is_described_with_the_way_out(other: Other) -> None:
    number = other.process.pid
    assert describe(other.name, "sleeps") == f"process {number} on {host_of(this_process())}, which sleeps"
    other.process.send_signal(signal.SIGSTOP)
    for _ in range(100):
        if "stopped" in describe(other.name, "sleeps"):
            break
        time.sleep(0.05)
    assert f"kill -CONT {number} lets it continue" in describe(other.name, "sleeps")
