"""Processes of this and other machines: names that tell them apart, and whether one is alive."""

import hashlib
import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil

MACHINE_IDS = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
NAMESPACE = Path("/proc/self/ns/pid")
OLD_TOLERANCE = 60.0
"""Seconds by which a clock may have been set since an earlier version wrote the start of a process in seconds."""


def this_process() -> str:
    """Return a name that no other process has: host, machine, boot, PID namespace, number, start."""
    here = _here()
    return "/".join([here.host, here.machine, here.boot, here.namespace, str(os.getpid()), _own_start()])


def is_dead(process: str) -> bool:
    """Whether `process` is known to have ended.

    Nothing survives a reboot of its machine. Nothing is known of processes of other machines and of other namespaces.
    """
    here, parts = _here(), process.split("/")
    if not _number_of(parts):
        return False
    if len(parts) == 5:  # of an earlier version
        host, boot, namespace, number, started = parts
        known = (host, boot, namespace) == (here.host, here.boot, here.namespace)
        return known and _ended_in_old_format(int(number), started)
    host, machine, boot, namespace, number, started = parts
    if boot != here.boot:
        return bool(machine) and machine == here.machine
    is_same_host = bool(boot) or host == here.host  # only Linux tells boots apart, whatever the host is called
    return is_same_host and namespace == here.namespace and _has_ended(int(number), started)


def host_of(process: str) -> str:
    """The machine of `process`, as `this_process` wrote it."""
    return process.partition("/")[0]


def describe(process: str, purpose: str) -> str:
    """Return what `process` does in words: its number, its host, `purpose`, and the way out if it is stopped here."""
    parts = process.split("/")
    number = _number_of(parts)
    if not number:
        return f"another process, which {purpose}"
    here = _here()
    is_stopped = (here.boot, here.namespace) == tuple(parts[-4:-2]) and _state_and_start(number)[0] in ("T", "t")
    hint = f". It is stopped: kill -CONT {number} lets it continue, kill -9 {number} ends it"
    return f"process {number} on {host_of(process)}, which {purpose}{hint if is_stopped else ''}"


@dataclass(frozen=True)
class _Here:
    """Where this process runs; facts that the system does not offer are empty."""

    host: str
    machine: str
    """Machine id and host name, hashed: the first is confidential, and images of machines are copied with it."""
    boot: str
    namespace: str


def _here() -> _Here:
    host = socket.gethostname()
    machine_id = next((found for file in MACHINE_IDS if (found := _text(file))), "")
    machine = hashlib.sha256(f"beans_exp {machine_id} {host}".encode()).hexdigest()[:16] if machine_id else ""
    namespace = str(NAMESPACE.stat().st_ino) if NAMESPACE.exists() else ""
    return _Here(host, machine, _text(BOOT_ID), namespace)


def _text(file: Path) -> str:
    try:
        return file.read_text().strip()
    except (OSError, ValueError):
        return ""


def _number_of(parts: list[str]) -> int | None:
    return int(parts[-2]) if len(parts) in (5, 6) and parts[-2].isdecimal() else None


def _has_ended(number: int, started: str) -> bool:
    state, start = _state_and_start(number)
    return state in ("Z", "X") or (start != started if start else not _exists(number))


def _own_start() -> str:
    """The start of this process, which no step of the clock changes: in ticks since boot on Linux."""
    return _stat("self")[1] or f"{psutil.Process().create_time():.2f}"


def _state_and_start(number: int) -> tuple[str, str]:
    """The state of a process and its start, as `_own_start` gives it; empty if they cannot be known."""
    if Path("/proc/self").is_symlink():
        is_ours = str(Path("/proc/self").readlink()) == str(os.getpid())  # else /proc is that of another namespace
        return _stat(str(number)) if is_ours else ("", "")
    try:
        found = psutil.Process(number)
        return "Z" if found.status() == psutil.STATUS_ZOMBIE else "", f"{found.create_time():.2f}"
    except psutil.Error:
        return "", ""


def _stat(name: str) -> tuple[str, str]:
    """The third and the 22nd field of /proc/NAME/stat; the second one may contain anything."""
    fields = _text(Path("/proc", name, "stat")).rpartition(")")[2].split()
    return (fields[0], fields[19]) if fields else ("", "")


def _exists(number: int) -> bool:
    if sys.platform != "linux":
        return psutil.pid_exists(number)
    try:
        os.kill(number, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's, which /proc may hide
        return True
    return True


def _ended_in_old_format(number: int, started: str) -> bool:
    try:
        found = psutil.Process(number)
        moved = abs(found.create_time() - float(started)) > OLD_TOLERANCE
        return moved or found.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
