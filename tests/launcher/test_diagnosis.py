"""Why a job failed, from its exit code, its note or its exception."""

import signal
from pathlib import Path

import pytest
from hydra.core.utils import JobReturn, JobStatus
from pebble import ProcessExpired

from beans_exp.errors import PrunedError
from beans_exp.launcher.diagnosis import (
    OVER_MEMORY,
    JobError,
    error_of,
    failed_result,
    from_exception,
    from_exit,
    is_pruned,
    kernel_kills,
)


@pytest.mark.parametrize(
    ("error", "kernel_kills_before", "kind", "message"),
    [
        (TimeoutError(), 0, "timeout", "exceeded hydra.launcher.timeout=8 seconds"),
        (SystemExit(143), 0, "killed", "process was terminated (exit status 143)"),
        (ProcessExpired("gone", -signal.SIGKILL), 3, "killed", "process was killed by SIGKILL"),
        (ProcessExpired("gone", -signal.SIGKILL), 2, "oom", "killed by the kernel: the machine ran out of memory"),
        (ProcessExpired("gone", -signal.SIGABRT), 2, "killed", "process was killed by SIGABRT"),
        (ProcessExpired("gone", 7), 0, "failed", "process ended with ProcessExpired: gone (exit status 7)"),
    ],
)
def test_a_process_that_returned_nothing_is_diagnosed(
    error: BaseException, kernel_kills_before: int, kind: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("beans_exp.launcher.diagnosis.kernel_kills", lambda: 3)
    found = from_exit(error, Path("job"), 8, kernel_kills_before)
    assert (found.kind, str(found)) == (kind, message)


def test_the_note_of_a_process_that_used_too_much_memory_comes_first(tmp_path: Path) -> None:
    (tmp_path / OVER_MEMORY).write_text("used 2.0 GB")
    found = from_exit(ProcessExpired("gone", -signal.SIGKILL), tmp_path, None, kernel_kills())
    assert (found.kind, found.message) == ("oom", "used 2.0 GB")


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (MemoryError("full"), "oom", "MemoryError: full"),
        (type("ResourceExhaustedError", (Exception,), {})("no more"), "oom", "ResourceExhaustedError: no more"),
        (ValueError("x" * 1000), "failed", f"ValueError: {'x' * 500}"),
    ],
)
def test_an_exception_is_kept_as_text(error: Exception, kind: str, message: str) -> None:
    found = from_exception(error)
    assert (found.kind, found.message) == (kind, message)


def test_the_error_of_a_result_is_what_its_job_ended_with() -> None:
    error = JobError("killed", "process was killed by SIGKILL")
    assert error_of(failed_result(["x=1"], error)) is error
    completed = JobReturn(status=JobStatus.COMPLETED)
    completed.return_value = 0.5
    assert error_of(completed) is None and error_of(JobReturn(status=JobStatus.UNKNOWN)) is None


def test_only_a_job_stopped_by_its_study_is_pruned() -> None:
    pruned = JobReturn(status=JobStatus.FAILED)
    pruned.return_value = PrunedError("others do better")
    assert is_pruned(pruned) and not is_pruned(failed_result([], JobError("failed", "a bad value")))
