"""Jobs in processes of their own: failures stay with their job, limits hold, free workers are used."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from hydra.core.utils import JobReturn
from omegaconf import DictConfig

from beans_exp.errors import BeansExpError
from beans_exp.launcher.diagnosis import JobError, error_of
from beans_exp.launcher.options import usable_cores
from beans_exp.locks import locked
from beans_exp.run_folder import LOCK
from beans_exp.temporary import own_temporary_folder
from tests.launcher.conftest import OpenPool, RunJobs, open_pool

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")


def _statuses(results: list[JobReturn]) -> list[str]:
    return [result.status.name for result in results]


def _job_error(result: JobReturn) -> JobError:
    error = error_of(result)
    assert isinstance(error, JobError)
    return error


def _end(config: DictConfig) -> Any:
    """Return `x`, or end in the way that it names."""
    if config.x == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if config.x == "abort":
        os.abort()
    if config.x == "exit":
        os._exit(7)
    if config.x == "raise":
        raise ValueError("a bad value")
    if config.x == "run out":
        raise MemoryError("no more")
    return config.x


ENDS = {
    "kill": ("killed", "process was killed by SIGKILL"),
    "abort": ("killed", "process was killed by SIGABRT"),
    "exit": ("failed", "exit status 7"),
    "raise": ("failed", "ValueError: a bad value"),
    "run out": ("oom", "MemoryError: no more"),
}
"""The kind and the message of each failure."""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, JobReturn]:
    """The results of jobs that fail in each of the ways, with one that succeeds before, between and after them."""
    values = ["first", *(value for end in ENDS for value in (end, f"after {end}"))]
    with open_pool(tmp_path_factory.mktemp("sweep"), _end) as jobs:
        return dict(zip(values, jobs.run_all([[f"+x={value}"] for value in values], 0), strict=True))


@pytest.mark.xdist_group("failing jobs")  # one pool for all
@pytest.mark.parametrize("end", ENDS)
def test_a_job_that_fails_costs_only_itself(end: str, results: dict[str, JobReturn]) -> None:
    succeeded = ["first", f"after {end}"]
    assert [results[value].return_value for value in succeeded] == succeeded
    kind, message = ENDS[end]
    error = _job_error(results[end])
    assert error.kind == kind and message in error.message


def _kill(config: DictConfig) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _hang(config: DictConfig) -> Any:
    if config.x == 1:
        time.sleep(600)
    return config.x


def test_a_job_that_hangs_ends_at_its_timeout(run_jobs: RunJobs) -> None:
    results = run_jobs(_hang, [1, 2], timeout=8)
    assert _statuses(results) == ["FAILED", "COMPLETED"]
    error = _job_error(results[0])
    assert (error.kind, error.message) == ("timeout", "exceeded hydra.launcher.timeout=8 seconds")


def test_a_job_killed_by_the_kernel_ran_out_of_memory(run_jobs: RunJobs, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = iter(range(100))
    monkeypatch.setattr("beans_exp.launcher.diagnosis.kernel_kills", lambda: next(counts))
    (result,) = run_jobs(_kill, [1])
    error = _job_error(result)
    assert (error.kind, error.message) == ("oom", "killed by the kernel: the machine ran out of memory")


def _allocate(config: DictConfig) -> Any:
    memory = bytearray(config.x * 10**9)
    memory[::4096] = b"x" * len(memory[::4096])
    time.sleep(3 * config.x)
    return len(memory)


def test_a_job_that_exceeds_its_memory_limit_is_killed(run_jobs: RunJobs) -> None:
    results = run_jobs(_allocate, [0, 1], memory_gb=0.5)
    assert _statuses(results) == ["COMPLETED", "FAILED"]
    error = _job_error(results[1])
    assert error.kind == "oom" and "more than hydra.launcher.memory_gb=0.5" in error.message


def _user_error(config: DictConfig) -> Any:
    raise BeansExpError("fix this")


def test_an_error_the_user_can_fix_is_returned_unchanged(run_jobs: RunJobs) -> None:
    (result,) = run_jobs(_user_error, [1])
    error = error_of(result)
    assert isinstance(error, BeansExpError) and str(error) == "fix this"


def _fail_odd(config: DictConfig) -> Any:
    if config.x % 2:
        raise ValueError("odd")
    return config.x


@pytest.mark.parametrize(
    ("bounds", "statuses"),
    [
        ({"on_error": "stop"}, ["COMPLETED", "FAILED", "UNKNOWN", "UNKNOWN"]),
        ({"max_failures": 1}, ["COMPLETED", "FAILED", "COMPLETED", "FAILED"]),
        ({"max_failures": 0}, ["COMPLETED", "FAILED", "UNKNOWN", "UNKNOWN"]),
    ],
)
def test_no_job_is_started_after_too_many_failures(
    bounds: dict[str, Any], statuses: list[str], run_jobs: RunJobs
) -> None:
    assert _statuses(run_jobs(_fail_odd, [0, 1, 2, 3], **bounds)) == statuses


def _describe_process(config: DictConfig) -> Any:
    started = time.time()
    time.sleep(2)
    print(f"printed by {config.x}")
    return os.getpid(), sorted(os.sched_getaffinity(0)), started, time.time()


@pytest.mark.skipif(len(usable_cores()) < 2 or sys.platform != "linux", reason="needs two cores to divide, on Linux")
def test_jobs_side_by_side_have_their_own_cores_and_logs(
    run_jobs: RunJobs, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    results = [result.return_value for result in run_jobs(_describe_process, [0, 1], n_jobs=2)]
    (pid, cores, started, ended), (other_pid, other_cores, other_started, other_ended) = results
    assert pid != other_pid and not set(cores) & set(other_cores)
    assert started < other_ended and other_started < ended, "at the same time"
    printed = capfd.readouterr().out
    assert "job 1: started: +x=0" in printed and "job 2: ended" in printed and "printed by" not in printed
    assert {file.read_text().strip() for file in tmp_path.rglob("job.log")} == {"printed by 0", "printed by 1"}


def _rest(config: DictConfig) -> Any:
    time.sleep(config.x)
    return config.x


@pytest.mark.skipif(len(usable_cores()) < 2, reason="needs two cores to divide")
def test_a_free_worker_takes_the_next_job_at_once(pool: OpenPool) -> None:
    with pool(_rest, n_jobs=2) as jobs:
        jobs.start(0, ["+x=60"])
        jobs.start(1, ["+x=0"])
        assert [number for number, _ in jobs.wait()] == [1]
        assert jobs.has_room, "beside the job that is still running"
        jobs.start(2, ["+x=0"])
        assert [number for number, _ in jobs.wait()] == [2]


def test_a_job_that_has_to_wait_for_another_process_names_it(
    pool: OpenPool, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "sweep" / "0").mkdir(parents=True)
    with pool(_rest) as jobs, locked(tmp_path / "sweep" / "0" / LOCK, "is testing"):
        jobs.run_all([["+x=0"]], 0)
    printed = capfd.readouterr().out
    assert f"job 1: waiting for process {os.getpid()} on " in printed and "which is running the same run" in printed


def _die_with_temporary_files(config: DictConfig) -> Any:
    with own_temporary_folder():
        Path(tempfile.mkdtemp(), "model").write_text("large")
        os.kill(os.getpid(), signal.SIGKILL)


def test_the_temporary_files_of_a_killed_job_are_removed(
    pool: OpenPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pool(_die_with_temporary_files) as jobs:
        monkeypatch.setenv("TMPDIR", str(tmp_path))  # of the job; the sockets of the pool need a shorter path
        monkeypatch.setattr(tempfile, "tempdir", None)
        jobs.run_all([["+x=0"]], 0)
        assert list(tmp_path.rglob("model")) == [] and list(tmp_path.glob("beans_exp-*")) == []


def test_the_parent_of_a_sweep_does_not_import_tensorflow() -> None:
    names = ("sweep.search", "sweep.launch", "sweep.preview", "sweep.confirm", "launcher.processes")
    modules = ", ".join(f"beans_exp.{name}" for name in names)
    code = f"import sys, {modules}; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
