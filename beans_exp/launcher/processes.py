"""Jobs in processes of their own: a bounded number run side by side, and one that dies costs only itself."""

import multiprocessing
import os
import sys
from collections.abc import Sequence
from concurrent import futures
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

from beans_exp.launcher import diagnosis
from beans_exp.launcher.diagnosis import error_of, failed_result, is_pruned
from beans_exp.launcher.live_table import LiveTable
from beans_exp.launcher.options import Options, usable_cores
from beans_exp.launcher.retries import Shrink, changes_for_retry, with_changes
from beans_exp.launcher.worker import JobPayload, run_payload
from beans_exp.run_folder import holder
from beans_exp.schema.composed import user_overrides
from beans_exp.temporary import keep_own_temporary_folder, remove_abandoned

GRACE = 15.0
"""Seconds that a terminated job has to close its run."""
POLL = 0.5
LOG = "job.log"


@dataclass
class RunningJob:
    """A job whose process has been started."""

    number: int
    overrides: list[str]
    folder: Path
    slot: int
    retries_left: int
    kernel_kills_before: int = 0
    """How many processes the kernel had killed for lack of memory when it was started."""
    future: "futures.Future[bytes]" = field(default_factory=futures.Future)


class JobPool:
    """The jobs of a sweep, at most `n_jobs` at once."""

    def __init__(
        self,
        options: Options,
        hydra_context: HydraContext,
        task_function: TaskFunction,
        config: DictConfig,
        shrink: Shrink | None = None,
    ) -> None:
        """Prepare to run jobs; without `shrink`, those that run out of memory are not retried."""
        setup_globals()
        configure_log(config.hydra.hydra_logging, config.hydra.verbose)
        self.options = options
        self.hydra_context = hydra_context
        self.task_function = task_function
        self.config = config
        self.shrink = shrink
        self.running: list[RunningJob] = []
        self.table = LiveTable(options.n_jobs > 1)
        self.failures = 0
        pebble.CONSTS.term_timeout = GRACE
        keep_own_temporary_folder()  # for the sockets of the fork server
        self.context = _context(task_function, config)
        cores = usable_cores()
        share = len(cores) // options.n_jobs
        self.shares = [cores[slot * share : (slot + 1) * share] for slot in range(options.n_jobs)]

    def __enter__(self) -> "JobPool":
        self.table.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Terminate the running jobs: each closes its run as killed."""
        for job in self.running:
            job.future.cancel()
        if self.running:
            psutil.wait_procs(job_processes(psutil.Process()), timeout=GRACE + 5)
            remove_abandoned()
        self.table.stop()

    @property
    def has_room(self) -> bool:
        """Whether another job may start now; never again once too many have failed."""
        return len(self.running) < self.options.n_jobs and self.failures <= self.options.allowed_failures

    def run_all(self, jobs: Sequence[Sequence[str]], first: int) -> list[JobReturn]:
        """Run a job for each item of `jobs`, its overrides, and return the results in order; `first` is its number."""
        queue = list(enumerate(jobs, start=first))
        results: dict[int, JobReturn] = {}
        while queue or self.running:
            while queue and self.has_room:
                self.start(*queue.pop(0))
            if not self.running:
                break
            results |= dict(self.wait())
        return [results.get(number, _not_started(overrides)) for number, overrides in enumerate(jobs, start=first)]

    def start(self, number: int, overrides: Sequence[str]) -> None:
        """Start a job; call it only while `has_room`."""
        slot = next(slot for slot in range(self.options.n_jobs) if slot not in {job.slot for job in self.running})
        self._launch(RunningJob(number, list(overrides), self._folder(number, overrides), slot, self.options.retries))

    def wait(self) -> list[tuple[int, JobReturn]]:
        """Wait until a job has ended; return the number and the result of each that has, none if none is running."""
        while self.running:
            futures.wait([job.future for job in self.running], POLL, futures.FIRST_COMPLETED)
            self.table.refresh({job.number: job.folder for job in self.running})
            done = [job for job in self.running if job.future.done()]
            ended = [(job.number, result) for job in done if (result := self._result(job)) is not None]
            if ended:
                return ended
        return []

    def _launch(self, job: RunningJob) -> None:
        (job.folder / diagnosis.OVER_MEMORY).unlink(missing_ok=True)
        job.kernel_kills_before = diagnosis.kernel_kills()
        payload = self._payload(job)
        if other := holder(job.folder):  # the job says so, too, but only once its libraries are imported
            self.table.note(job.number, f"waiting for {other}")
        bounds: dict[str, Any] = {"timeout": self.options.timeout, "context": self.context}
        start = pebble.concurrent.process(**bounds)(run_payload)
        job.future = start(cloudpickle.dumps(payload))
        self.running.append(job)
        self.table.add(job.number, " ".join(filter_overrides(user_overrides(job.overrides))), payload.log)

    def _payload(self, job: RunningJob) -> JobPayload:
        side_by_side = self.options.n_jobs > 1
        return JobPayload(
            hydra_context=self.hydra_context,
            task_function=self.task_function,
            config=self.config,
            overrides=job.overrides,
            number=job.number,
            folder=job.folder,
            cores=self.shares[job.slot] if side_by_side else (),
            memory_gb=self.options.memory_gb,
            log=job.folder / LOG if side_by_side else None,
            singletons=Singleton.get_state(),
            environment=dict(os.environ),
        )

    def _result(self, job: RunningJob) -> JobReturn | None:
        """Return the result of a job that has ended; None if it is retried."""
        self.running.remove(job)
        exit_error = job.future.exception()  # of the process, not of the code it ran
        if exit_error:
            remove_abandoned()
            cause = diagnosis.from_exit(exit_error, job.folder, self.options.timeout, job.kernel_kills_before)
            result = failed_result(job.overrides, cause)
        else:
            result = cloudpickle.loads(job.future.result())
        if job.retries_left and self._retry(job, error_of(result)):
            return None
        failed = result.status != JobStatus.COMPLETED
        self.failures += failed and not is_pruned(result)
        self.table.remove(job.number, "failed" if failed else "ended")
        return result

    def _retry(self, job: RunningJob, error: BaseException | None) -> bool:
        """Start the job again unless it would fail the same way; return whether it was started."""
        changes = changes_for_retry(error, lambda: self._composed(job.number, job.overrides), self.shrink)
        if changes is None:
            return False
        self.table.note(job.number, f"{error}; retrying" + (f" with {' '.join(changes)}" if changes else ""))
        overrides = with_changes(job.overrides, changes)
        self._launch(replace(job, retries_left=job.retries_left - 1, overrides=overrides))
        return True

    def _folder(self, number: int, overrides: Sequence[str]) -> Path:
        """Return the folder that Hydra will make for the job."""
        config = self._composed(number, overrides)
        return Path(config.hydra.sweep.dir).absolute() / str(OmegaConf.select(config, "hydra.sweep.subdir"))

    def _composed(self, number: int, overrides: Sequence[str]) -> DictConfig:
        config = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
        with open_dict(config):
            config.hydra.job.id = config.hydra.job.num = number
        return config


def _context(task_function: TaskFunction, config: DictConfig) -> BaseContext:
    """Return the context that makes processes: they are forked from a server that has done nothing but import.

    They are spawned where a fork is not safe, and where jobs set variables that libraries read on import.
    """
    if sys.platform != "linux" or config.hydra.job.env_set:
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([run_payload.__module__, *getattr(task_function, "preload", ())])
    forkserver.ensure_running()  # it imports while the first job is prepared
    return context


def job_processes(parent: psutil.Process) -> list[psutil.Process]:
    """Return the processes that run jobs of the sweep `parent`: its own children, or those of its fork server."""
    found = []
    for child in parent.children():
        with suppress(psutil.NoSuchProcess):
            command = " ".join(child.cmdline())
            if "spawn_main" in command:
                found.append(child)
            elif "forkserver" in command:
                found += child.children()
    return found


def _not_started(overrides: Sequence[str]) -> JobReturn:
    return JobReturn(overrides=list(overrides), status=JobStatus.UNKNOWN)
