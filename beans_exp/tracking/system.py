"""Tags about machine and code, and the peak of memory."""

import importlib.metadata
import os
import resource
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from beans_exp.tracking import tags

PACKAGES = ("beans-exp", "tensorflow", "keras", "tensorflow-datasets", "mlflow", "hydra-core", "optuna", "numpy")


def package_versions() -> dict[str, str]:
    """Return the tags `beans.version.<package>` for packages that affect or record a run."""
    found = {}
    for name in PACKAGES:
        try:
            found[tags.VERSION + name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # a source tree that was never installed
            continue
    return found


def threads() -> dict[str, str]:
    """Return the tag for the number of threads that compute at once; durations depend on it."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {tags.THREADS: os.environ.get("TF_NUM_INTRAOP_THREADS", str(cores))}


def git_commit() -> dict[str, str]:
    """Return MLflow's tag for the commit of the running code; nothing for an installed copy."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        for words in (["ls-files", "--error-unmatch", Path(__file__).name], ["rev-parse", "HEAD"]):
            answer = subprocess.run([*git, *words], capture_output=True, text=True, check=True, timeout=5).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    return {tags.GIT_COMMIT: answer.strip()}


def reset_peak_memory() -> None:
    """Reset the peak, if the system can (Linux): jobs may share a process."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory_mb() -> float:
    """Return the largest resident memory of this process since `reset_peak_memory`, in megabytes (10^6 bytes)."""
    try:
        status = Path("/proc/self/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) * 1024 / 1e6
    except (OSError, StopIteration):
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
