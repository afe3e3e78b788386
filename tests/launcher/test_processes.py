"""Jobs in processes of their own: Hydra's own suites, and what becomes of a job that goes wrong."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.utils import JobReturn, JobStatus
from hydra.test_utils.launcher_common_tests import IntegrationTestSuite, LauncherTestSuite
from hydra.types import HydraContext
from omegaconf import DictConfig

from beans_exp.errors import BeansExpError, ConfigError
from beans_exp.launcher.diagnosis import JobError, error_of
from beans_exp.launcher.live_table import LiveTable
from beans_exp.launcher.options import Options, usable_cores
from beans_exp.launcher.processes import JobPool
from beans_exp.run_folder import RunProgress, write_progress
from beans_exp.sweep.microbatch import halve_microbatch

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")


@pytest.mark.parametrize(("launcher_name", "overrides"), [("isolated", [])])
class TestHydrasLauncherSuite(LauncherTestSuite):
    """What Hydra expects of any launcher."""


@pytest.mark.parametrize(
    ("task_launcher_cfg", "extra_flags"),
    [({}, ["-m", "hydra/launcher=isolated"])],
)
class TestHydrasIntegrationSuite(IntegrationTestSuite):
    """What Hydra expects of a program that uses any launcher."""


Sweep = Callable[..., list[JobReturn]]


@pytest.fixture
def jobs(tmp_path: Path) -> Callable[..., AbstractContextManager[JobPool]]:
    """Jobs of a task in processes of their own, with the options that are given."""

    @contextmanager
    def opened(task: Callable[[DictConfig], Any], **options: Any) -> Iterator[JobPool]:
        with initialize(version_base="1.3", config_path=None):
            fixed = [f"hydra.sweep.dir={tmp_path / 'sweep'}", "hydra.job.chdir=false"]
            config = compose(overrides=fixed, return_hydra_config=True)
            context = HydraContext(GlobalHydra.instance().config_loader(), Callbacks())
            with JobPool(Options(**{"retries": 0} | options), context, task, config, halve_microbatch) as found:
                yield found

    return opened


@pytest.fixture
def sweep(jobs: Callable[..., AbstractContextManager[JobPool]]) -> Sweep:
    """Run a task for each of the values of `x` in processes of their own; further words are options and overrides."""

    def run(task: Callable[[DictConfig], Any], values: Sequence[int], *words: str, **options: Any) -> list[JobReturn]:
        with jobs(task, **options) as started:
            return started.run_all([[f"+x={x}", *words] for x in values], 0)

    return run


def _statuses(returns: list[JobReturn]) -> list[str]:
    return [found.status.name for found in returns]


def _error(found: JobReturn) -> tuple[str, str]:
    error = error_of(found)
    assert isinstance(error, JobError)
    return error.kind, error.message


def _kill(config: DictConfig) -> Any:
    if config.x == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return config.x


def _crash(config: DictConfig) -> Any:
    if config.x == 1:
        os.abort()
    return config.x


def _exit(config: DictConfig) -> Any:
    if config.x == 1:
        os._exit(7)
    return config.x


def _raise(config: DictConfig) -> Any:
    if config.x == 1:
        raise ValueError("a bad value")
    return config.x


def _run_out(config: DictConfig) -> Any:
    if config.x == 1:
        raise MemoryError("no more")
    return config.x


def _hang(config: DictConfig) -> Any:
    if config.x == 1:
        time.sleep(600)
    return config.x


@pytest.mark.parametrize(
    ("task", "kind", "message"),
    [
        (_kill, "killed", "process was killed by SIGKILL"),
        (_crash, "killed", "process was killed by SIGABRT"),
        (_exit, "failed", "exit status 7"),
        (_raise, "failed", "ValueError: a bad value"),
        (_run_out, "oom", "MemoryError: no more"),
    ],
)
def test_a_job_costs_itself_alone(task: Callable[[DictConfig], Any], kind: str, message: str, sweep: Sweep) -> None:
    returns = sweep(task, [0, 1, 2])
    assert _statuses(returns) == ["COMPLETED", "FAILED", "COMPLETED"]
    assert [returns[0].return_value, returns[2].return_value] == [0, 2]
    found = _error(returns[1])
    assert found[0] == kind and message in found[1]


def test_a_job_that_hangs_ends_at_its_limit(sweep: Sweep) -> None:
    returns = sweep(_hang, [1, 2], timeout=8)
    assert _statuses(returns) == ["FAILED", "COMPLETED"]
    assert _error(returns[0]) == ("timeout", "exceeded hydra.launcher.timeout=8 seconds")


def test_a_job_that_the_kernel_killed_ran_out_of_memory(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = iter(range(100))
    monkeypatch.setattr("beans_exp.launcher.diagnosis.kernel_kills", lambda: next(counts))
    (found,) = sweep(_kill, [1])
    assert _error(found) == ("oom", "killed by the kernel: the machine ran out of memory")


def _hold(config: DictConfig) -> Any:
    held = bytearray(config.x * 10**9)
    held[::4096] = b"x" * len(held[::4096])
    time.sleep(3)
    return len(held)


def test_a_job_that_holds_too_much_ends(sweep: Sweep) -> None:
    returns = sweep(_hold, [0, 1], memory_gb=0.5)
    assert _statuses(returns) == ["COMPLETED", "FAILED"]
    kind, message = _error(returns[1])
    assert kind == "oom" and "more than hydra.launcher.memory_gb=0.5" in message


def _user_error(config: DictConfig) -> Any:
    raise BeansExpError("mend this")


def test_an_error_that_the_user_can_mend_comes_back_as_it_is(sweep: Sweep) -> None:
    (found,) = sweep(_user_error, [1])
    assert isinstance(error_of(found), BeansExpError) and str(error_of(found)) == "mend this"


@pytest.mark.parametrize(
    ("bounds", "statuses"),
    [
        ({"on_error": "stop"}, ["COMPLETED", "FAILED", "UNKNOWN", "UNKNOWN"]),
        ({"max_failures": 1}, ["COMPLETED", "FAILED", "COMPLETED", "FAILED"]),
        ({"max_failures": 0}, ["COMPLETED", "FAILED", "UNKNOWN", "UNKNOWN"]),
    ],
)
def test_failures_can_leave_the_others_out(bounds: dict[str, Any], statuses: list[str], sweep: Sweep) -> None:
    assert _statuses(sweep(_fail_odd, [0, 1, 2, 3], **bounds)) == statuses


def _fail_odd(config: DictConfig) -> Any:
    if config.x % 2:
        raise ValueError("odd")
    return config.x


def _where(config: DictConfig) -> Any:
    started = time.time()
    time.sleep(2)
    print(f"said by {config.x}")
    return os.getpid(), sorted(os.sched_getaffinity(0)), started, time.time()


@pytest.mark.skipif(len(usable_cores()) < 2 or sys.platform != "linux", reason="needs two cores to divide, on Linux")
def test_side_by_side_on_cores_of_their_own_with_readable_output(
    sweep: Sweep, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    returns = [found.return_value for found in sweep(_where, [0, 1], n_jobs=2)]
    (pid, cores, begun, ended), (other_pid, other_cores, other_begun, other_ended) = returns
    assert pid != other_pid and not set(cores) & set(other_cores)
    assert begun < other_ended and other_begun < ended, "at the same time"
    printed = capfd.readouterr().out
    assert "job 1: started: +x=0" in printed and "job 2: ended" in printed and "said by" not in printed
    assert {file.read_text().strip() for file in tmp_path.rglob("job.log")} == {"said by 0", "said by 1"}


def _rest(config: DictConfig) -> Any:
    time.sleep(config.x)
    return config.x


@pytest.mark.skipif(len(usable_cores()) < 2, reason="needs two cores to divide")
def test_a_worker_that_is_free_takes_the_next_job_at_once(jobs: Callable[..., AbstractContextManager[JobPool]]) -> None:
    with jobs(_rest, n_jobs=2) as started:
        started.start(0, ["+x=60"])
        started.start(1, ["+x=0"])
        assert [number for number, _ in started.wait()] == [1]
        assert started.has_room, "beside the one that goes on"
        started.start(2, ["+x=0"])
        assert [number for number, _ in started.wait()] == [2]


def test_jobs_side_by_side_are_a_live_table(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    board = LiveTable(shown=True)
    board.start()
    board.add(0, "reg=l2", None)
    board.add(1, "reg=l1", None)
    write_progress(tmp_path, RunProgress(1, 3, 20, {"val/accuracy": 0.75, "train/accuracy": 0.5}, 125))
    board.refresh({0: tmp_path, 1: tmp_path / "not there"})
    board.stop()
    printed = capsys.readouterr().out
    row, *_ = [line.split() for line in printed.splitlines() if "reg=l2" in line and "3/20" in line]
    assert row[1:6] == ["reg=l2", "1", "3/20", "0.750", "0.500"] and "2 min 05 s" in printed
    assert "reg=l1 (starting)" in printed


def _fail_once(config: DictConfig) -> Any:
    marker = Path(config.marker)
    if not marker.exists():
        marker.touch()
        if config.x == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        raise MemoryError
    return config.trainer.microbatch


@pytest.mark.parametrize(("x", "microbatch"), [(0, None), (1, 16)], ids=["killed", "oom"])
def test_a_job_is_tried_again(x: int, microbatch: int | None, sweep: Sweep, tmp_path: Path) -> None:
    words = [f"+marker={tmp_path / 'marker'}", "+trainer.microbatch=null", "+trainer.batch_size=32"]
    (found,) = sweep(_fail_once, [x], *words, retries=1)
    assert found.status == JobStatus.COMPLETED
    assert found.return_value == microbatch


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"n_jobs": 0}, "hydra.launcher.n_jobs=0: must be 1 to"),
        ({"n_jobs": 1000}, "the cores of this machine"),
        ({"timeout": 0}, "hydra.launcher.timeout=0: must be above 0"),
        ({"memory_gb": -1}, "hydra.launcher.memory_gb=-1"),
        ({"on_error": "halt"}, "must be one of continue, stop"),
        ({"retries": -1}, "hydra.launcher.retries=-1"),
        ({"on_error": "stop", "max_failures": 2}, "null with on_error=stop"),
    ],
)
def test_bounds_that_mean_nothing(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Options(**given)


def test_the_parent_of_a_sweep_does_not_import_tensorflow() -> None:
    names = ("sweep.search", "sweep.launch", "sweep.preview", "sweep.confirm", "launcher.processes")
    modules = ", ".join(f"beans_exp.{name}" for name in names)
    code = f"import sys, {modules}; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
