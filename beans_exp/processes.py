"""Processes of this and other machines: names that tell them apart, and whether one is alive."""

import os
import socket
from pathlib import Path

import psutil


def this_process() -> str:
    """Return a name that no other process has: host, boot, process namespace, number, start time."""
    return f"{_here()}/{os.getpid()}/{psutil.Process().create_time():.2f}"


def is_dead(process: str) -> bool:
    """Whether `process` ran on this machine and ended; nothing is known of other machines' processes."""
    if not process.startswith(f"{_here()}/"):
        return False
    _, number, started = process.rsplit("/", 2)
    try:
        found = psutil.Process(int(number))
        return f"{found.create_time():.2f}" != started or found.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def host_of(process: str) -> str:
    """The machine of `process`, as `this_process` wrote it."""
    return process.partition("/")[0]


def _here() -> str:
    boot, namespace = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")  # Linux has them
    facts = [boot.read_text().strip() if boot.exists() else "", namespace.stat().st_ino if namespace.exists() else ""]
    return "/".join(map(str, [socket.gethostname(), *facts]))
