"""Why a job failed, as an error that can be sent between processes: from its exit code, its note, or its exception."""

import signal
from collections.abc import Sequence
from pathlib import Path

from hydra.core.utils import JobReturn, JobStatus

from beans_exp.errors import PrunedError

OVER_MEMORY = "over_memory.txt"
"""Written to the job's folder by a process that kills itself for exceeding its memory limit."""
OUT_OF_MEMORY = ("MemoryError", "ResourceExhaustedError")
"""Python's and TensorFlow's exceptions for a failed allocation."""


class JobError(Exception):
    """Why a job returned no result, as text: not every library's exceptions can be pickled.

    `kind` is `failed`, `oom`, `killed` or `timeout`.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(kind, message)
        self.kind = kind
        self.message = message

    def __str__(self) -> str:
        return self.message


def error_of(result: JobReturn) -> BaseException | None:
    """Return the exception that a job ended with; None if it returned a result or was never started."""
    return result._return_value if result.status == JobStatus.FAILED else None


def is_pruned(result: JobReturn) -> bool:
    """Whether a job was stopped by its study."""
    return isinstance(error_of(result), PrunedError)


def failed_result(overrides: Sequence[str], error: JobError) -> JobReturn:
    """Return the result of a job that could not return one."""
    result = JobReturn(overrides=list(overrides), status=JobStatus.FAILED)
    result._return_value = error
    return result


def from_exception(error: BaseException) -> JobError:
    """Return the diagnosis of a job that raised `error`."""
    name = type(error).__name__
    return JobError("oom" if name in OUT_OF_MEMORY else "failed", f"{name}: {str(error).strip()[:500]}")


def from_exit(error: BaseException, folder: Path, timeout: float | None, kernel_kills_before: int) -> JobError:
    """Return the diagnosis of a job whose process ended without returning.

    `error` is the exception that Pebble reports for the process, `folder` the job's, `timeout` its limit in seconds and
    `kernel_kills_before` the count of `kernel_kills` when it was started.
    """
    note = folder / OVER_MEMORY
    if note.is_file():
        return JobError("oom", note.read_text())
    if isinstance(error, TimeoutError):
        return JobError("timeout", f"exceeded hydra.launcher.timeout={timeout:g} seconds")
    if isinstance(error, SystemExit):
        return JobError("killed", f"process was terminated (exit status {error.code})")
    if isinstance(error, OSError) and error.errno is not None:  # Hydra could not write the job's folder
        return JobError("killed", f"its folder cannot be used: {error}")
    code = getattr(error, "exitcode", None) or getattr(error, "code", None)
    if code == -signal.SIGKILL and kernel_kills() > kernel_kills_before:
        return JobError("oom", "killed by the kernel: the machine ran out of memory")
    if isinstance(code, int) and code < 0:
        return JobError("killed", f"process was killed by {signal.Signals(-code).name}")
    return JobError("failed", f"process ended with {type(error).__name__}: {error} (exit status {code})")


def kernel_kills() -> int:
    """Return how many processes Linux has killed since boot for lack of memory; 0 on other systems."""
    counts = Path("/proc/vmstat")
    lines = counts.read_text().splitlines() if counts.is_file() else []
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
