"""Jobs in processes of their own: started side by side, bounded, tried again, and never more than one lost."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing import forkserver
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

import cloudpickle
import pebble
import psutil
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, configure_log, filter_overrides, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from beans_exp.launcher.live_table import LiveTable
from beans_exp.launcher.worker import OVER_MEMORY, JobError, JobPayload, is_pruned, lost, run_payload
from beans_exp.schema.composed import user_overrides
from beans_exp.schema.rules import at_least, broken, one_of, positive

GRACE = 15.0
"""Seconds that a job that is ended has to close its run."""
POLL = 0.5
LOG = "job.log"


@dataclass(frozen=True)
class Options:
    """`hydra.launcher` of the isolated launcher."""

    n_jobs: int = 1
    timeout: float | None = None
    memory_gb: float | None = None
    on_error: str = "continue"
    max_failures: int | None = None
    retries: int = 1

    def __post_init__(self) -> None:
        cores = len(usable_cores())
        if not 1 <= self.n_jobs <= cores:
            raise broken("hydra.launcher.n_jobs", self.n_jobs, f"1 to {cores}, the cores of this machine")
        positive("hydra.launcher.timeout", self.timeout)
        positive("hydra.launcher.memory_gb", self.memory_gb)
        one_of("hydra.launcher.on_error", self.on_error, ("continue", "stop"))
        at_least("hydra.launcher.max_failures", self.max_failures, 0)
        at_least("hydra.launcher.retries", self.retries, 0)
        if self.on_error == "stop" and self.max_failures is not None:
            raise broken("hydra.launcher.max_failures", self.max_failures, "null with on_error=stop, which allows none")

    @property
    def allowed_failures(self) -> float:
        """How many jobs may fail before the others are left out."""
        if self.on_error == "stop":
            return 0
        return float("inf") if self.max_failures is None else self.max_failures


def usable_cores() -> tuple[int, ...]:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


@dataclass
class RunningJob:
    """A job that is under way."""

    number: int
    overrides: list[str]
    folder: Path
    slot: int
    retries_left: int
    started_kills: int
    """How many processes the kernel had killed for want of memory when it began."""
    future: "Future[bytes]" = field(default_factory=Future)


class JobPool:
    """The jobs of a sweep; at most `n_jobs` are under way at once."""

    def __init__(
        self, options: Options, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        setup_globals()
        configure_log(config.hydra.hydra_logging, config.hydra.verbose)
        self.options = options
        self.hydra_context = hydra_context
        self.task_function = task_function
        self.config = config
        self.running: list[RunningJob] = []
        self.board = LiveTable(options.n_jobs > 1)
        self.failures = 0
        pebble.CONSTS.term_timeout = GRACE
        self.context = _context(task_function, config)
        cores = usable_cores()
        share = len(cores) // options.n_jobs
        self.shares = [cores[slot * share : (slot + 1) * share] for slot in range(options.n_jobs)]

    def __enter__(self) -> "JobPool":
        self.board.start()
        return self

    def __exit__(self, *words: object) -> None:
        """End what is still under way: each job closes its run as killed."""
        for job in self.running:
            job.future.cancel()
        if self.running:
            psutil.wait_procs(job_processes(psutil.Process()), timeout=GRACE + 5)
        self.board.stop()

    @property
    def has_room(self) -> bool:
        """Whether another job may start now: never again once more have failed than may."""
        return len(self.running) < self.options.n_jobs and self.failures <= self.options.allowed_failures

    def run_all(self, every: Sequence[Sequence[str]], first: int) -> list[JobReturn]:
        """Run a job for each item, numbered from `first`, and return what came back, in their order."""
        waiting = list(enumerate(every, start=first))
        results: dict[int, JobReturn] = {}
        while waiting or self.running:
            while waiting and self.has_room:
                self.start(*waiting.pop(0))
            if not self.running:
                break
            results |= dict(self.ended())
        return [results.get(number, _not_run(overrides)) for number, overrides in enumerate(every, start=first)]

    def start(self, number: int, overrides: Sequence[str]) -> None:
        """Start a job; `has_room` says whether there is room for it."""
        slot = next(slot for slot in range(self.options.n_jobs) if slot not in {job.slot for job in self.running})
        job = RunningJob(number, list(overrides), self._folder(number, overrides), slot, self.options.retries, 0)
        self._launch(job)

    def ended(self) -> list[tuple[int, JobReturn]]:
        """Wait until a job has ended, and return the numbers of those that have, with what came back."""
        while self.running:
            wait([job.future for job in self.running], timeout=POLL, return_when=FIRST_COMPLETED)
            self.board.show({job.number: job.folder for job in self.running})
            done = [job for job in self.running if job.future.done()]
            found = [(job.number, result) for job in done if (result := self._result(job)) is not None]
            if found:
                return found
        return []

    def _launch(self, job: RunningJob) -> None:
        (job.folder / OVER_MEMORY).unlink(missing_ok=True)
        job.started_kills = kernel_kills()
        log = job.folder / LOG if self.options.n_jobs > 1 else None
        cores = self.shares[job.slot] if self.options.n_jobs > 1 else ()
        payload = JobPayload(
            self.hydra_context,
            self.task_function,
            self.config,
            job.overrides,
            job.number,
            job.folder,
            cores,
            self.options.memory_gb,
            log,
            Singleton.get_state(),
            dict(os.environ),
        )
        bounds: dict[str, Any] = {"timeout": self.options.timeout, "context": self.context}
        start = pebble.concurrent.process(**bounds)(run_payload)
        job.future = start(cloudpickle.dumps(payload))
        self.running.append(job)
        self.board.started(job.number, self._label(job), log)

    def _label(self, job: RunningJob) -> str:
        return " ".join(filter_overrides(user_overrides(job.overrides)))

    def _result(self, job: RunningJob) -> JobReturn | None:
        """What came of a job that is done; None where it is tried again."""
        self.running.remove(job)
        ended = job.future.exception()  # of the process, not of what it ran
        result = lost(job.overrides, self._cause(job, ended)) if ended else cloudpickle.loads(job.future.result())
        failed = result.status != JobStatus.COMPLETED
        error = result._return_value if failed else None
        if job.retries_left and (again := self._again(job, error)):
            self._launch(again)
            return None
        self.failures += failed and not is_pruned(result)
        self.board.ended(job.number, "failed" if failed else "ended")
        return result

    def _again(self, job: RunningJob, error: object) -> RunningJob | None:
        """The job for another try; None where that would end the same way."""
        half = 0
        again = replace(job, retries_left=job.retries_left - 1)
        if not isinstance(error, JobError) or error.kind not in ("killed", "oom"):
            return None
        if error.kind == "oom":
            trainer = OmegaConf.select(self._composed(job.number, job.overrides), "trainer", default={})
            half = (trainer.get("microbatch") or trainer.get("batch_size", 0)) // 2
            if half < 1:
                return None
            kept = [word for word in job.overrides if not word.lstrip("+").startswith("trainer.microbatch=")]
            again = replace(again, overrides=[*kept, f"++trainer.microbatch={half}"])
        self.board.say(job.number, f"{error}; tried again{f' with trainer.microbatch={half}' if half else ''}")
        return again

    def _cause(self, job: RunningJob, error: BaseException) -> JobError:
        note = job.folder / OVER_MEMORY
        if note.is_file():
            return JobError("oom", note.read_text())
        if isinstance(error, TimeoutError):
            return JobError("timeout", f"it took longer than hydra.launcher.timeout={self.options.timeout:g} seconds")
        if isinstance(error, SystemExit):
            return JobError("killed", f"its process was told to end (exit status {error.code})")
        code = getattr(error, "exitcode", None) or getattr(error, "code", None)
        if code == -signal.SIGKILL and kernel_kills() > job.started_kills:
            return JobError("oom", "the kernel killed it: the machine's memory was full")
        if isinstance(code, int) and code < 0:
            return JobError("killed", f"its process was ended by {signal.Signals(-code).name}")
        return JobError("failed", f"its process ended with {type(error).__name__}: {error} (exit status {code})")

    def _folder(self, number: int, overrides: Sequence[str]) -> Path:
        """The folder that Hydra will make for the job."""
        config = self._composed(number, overrides)
        return Path(config.hydra.sweep.dir).absolute() / str(OmegaConf.select(config, "hydra.sweep.subdir"))

    def _composed(self, number: int, overrides: Sequence[str]) -> DictConfig:
        config = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
        with open_dict(config):
            config.hydra.job.id = config.hydra.job.num = number
        return config


def kernel_kills() -> int:
    """How many processes Linux has killed since it started because memory was full; 0 on other systems."""
    counts = Path("/proc/vmstat")
    lines = counts.read_text().splitlines() if counts.is_file() else []
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


def _context(task_function: TaskFunction, config: DictConfig) -> BaseContext:
    """How the processes of jobs are made: forked off a server that has imported what all need, and done nothing else.

    They are started from nothing where a fork is not safe, and where jobs set variables that libraries read while they
    are imported.
    """
    if sys.platform != "linux" or config.hydra.job.env_set:
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([run_payload.__module__, *getattr(task_function, "preload", ())])
    forkserver.ensure_running()  # it imports while the first job is got ready
    return context


def job_processes(parent: psutil.Process) -> list[psutil.Process]:
    """The processes that run jobs of the sweep `parent`: its own children, or those of its server."""
    found = []
    for child in parent.children():
        with suppress(psutil.NoSuchProcess):
            command = " ".join(child.cmdline())
            if "spawn_main" in command:
                found.append(child)
            elif "forkserver" in command:
                found += child.children()
    return found


def _not_run(overrides: Sequence[str]) -> JobReturn:
    return JobReturn(overrides=list(overrides), status=JobStatus.UNKNOWN)
