"""Runs one job in a fresh process: applies its limits, runs it through Hydra, and returns the result."""

import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import cloudpickle
import psutil
from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from beans_exp.errors import BeansExpError
from beans_exp.launcher.diagnosis import OVER_MEMORY, from_exception
from beans_exp.terminal import keep_output_open

WATCH_SECONDS = 0.2
CLOSE_SECONDS = 20
"""Enough for a run to be closed after its parent died."""


@dataclass(frozen=True)
class JobPayload:
    """All that a fresh process needs to run one job: Hydra's objects and the job's limits."""

    hydra_context: HydraContext
    task_function: TaskFunction
    config: DictConfig
    overrides: Sequence[str]
    number: int
    folder: Path
    cores: tuple[int, ...]
    """The cores it may use; empty for all."""
    memory_gb: float | None
    log: Path | None
    """The file for its output; None for the terminal."""
    singletons: object
    """The state of Hydra's singletons in the parent."""
    environment: dict[str, str]
    """The parent's variables at this moment: a forked process would have those of its fork server."""


def run_payload(payload: bytes) -> bytes:
    """Run the pickled `JobPayload` in this process; return its pickled `JobReturn`."""
    parent = os.getppid()  # or the fork server, which ends with the parent
    job: JobPayload = cloudpickle.loads(payload)
    os.environ.clear()
    os.environ.update(job.environment)
    tempfile.tempdir = None  # the variables of the fork server may have named another one
    signal.signal(signal.SIGTERM, _exit)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles interrupts, and ends its jobs
    if job.log:
        _redirect_output(job.log)
    keep_output_open()
    _use_cores(job.cores)
    threading.Thread(target=_watch, args=(parent, job.memory_gb, job.folder), daemon=True).start()
    result = cloudpickle.dumps(_run(job))
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # Pebble sends it after the result: let the interpreter shut down
    return result


def _run(job: JobPayload) -> JobReturn:
    setup_globals()
    Singleton.set_state(job.singletons)
    config = job.hydra_context.config_loader.load_sweep_config(job.config, list(job.overrides))
    with open_dict(config):
        config.hydra.job.id = job.number
        config.hydra.job.num = job.number
    HydraConfig.instance().set_config(config)
    result = run_job(
        hydra_context=job.hydra_context,
        task_function=job.task_function,
        config=config,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )
    error = result._return_value
    if result.status == JobStatus.FAILED and not isinstance(error, BeansExpError):
        print("".join(traceback.format_exception(error)), file=sys.stderr, flush=True)
        result._return_value = from_exception(error)
    return result


def _exit(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


def _redirect_output(log: Path) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as stream:
        for descriptor in (1, 2):
            os.dup2(stream.fileno(), descriptor)


def _use_cores(cores: tuple[int, ...]) -> None:
    """Bind this process to `cores`, before TensorFlow counts them."""
    if not cores:
        return
    os.environ["OMP_NUM_THREADS"] = os.environ["TF_NUM_INTRAOP_THREADS"] = str(len(cores))
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)


def _watch(parent: int, memory_gb: float | None, folder: Path) -> None:
    """End this process when its parent ends, or when it exceeds its memory limit."""
    me = psutil.Process()
    while os.getppid() == parent:
        if memory_gb is not None and (used := me.memory_info().rss / 1e9) > memory_gb:
            folder.mkdir(parents=True, exist_ok=True)
            note = f"used {used:.1f} GB, more than hydra.launcher.memory_gb={memory_gb:g}"
            (folder / OVER_MEMORY).write_text(note)
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(WATCH_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(CLOSE_SECONDS)
    os._exit(1)
