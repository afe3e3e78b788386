"""What a fresh process does for one job: be bounded, run it through Hydra, and hand back what came of it."""

import os
import signal
import sys
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

from beans_exp.errors import BeansExpError, PrunedError

WATCH_SECONDS = 0.2
OVER_MEMORY = "over_memory.txt"
"""Left in the job's folder by a process that ended itself because it held too much."""


@dataclass(frozen=True)
class JobPayload:
    """One job, whole: what Hydra needs to run it, and its bounds."""

    hydra_context: HydraContext
    task_function: TaskFunction
    config: DictConfig
    overrides: Sequence[str]
    number: int
    folder: Path
    cores: tuple[int, ...]
    """The cores it may use; empty: all of them."""
    memory_gb: float | None
    log: Path | None
    """Where its output goes; None: to the terminal."""
    singletons: object
    """The state of Hydra's singletons in the parent."""
    environment: dict[str, str]
    """The parent's variables now: a process that is forked has those of the server that it comes from."""


class JobError(Exception):
    """How a job ended that returned nothing, as text: a library's exceptions cannot all be handed on.

    `kind` is `failed`, `oom`, `killed` or `timeout`.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(kind, message)
        self.kind = kind
        self.message = message

    def __str__(self) -> str:
        return self.message


def run_payload(payload: bytes) -> bytes:
    """Run the pickled `JobPayload` in this process; return its pickled `JobReturn`."""
    parent = os.getppid()  # or the server of the parent, which ends with it
    job: JobPayload = cloudpickle.loads(payload)
    os.environ.clear()
    os.environ.update(job.environment)
    signal.signal(signal.SIGTERM, _exit)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is the parent's, which ends its jobs
    if job.log:
        _redirect(job.log)
    _use(job.cores)
    threading.Thread(target=_watch, args=(parent, job.memory_gb, job.folder), daemon=True).start()
    result = cloudpickle.dumps(_run(job))
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it is sent to whoever has delivered: let the interpreter end
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
    if result.status == JobStatus.FAILED and not isinstance(result._return_value, BeansExpError):
        result._return_value = _as_text(result._return_value)
    return result


def _as_text(error: BaseException) -> JobError:
    print("".join(traceback.format_exception(error)), file=sys.stderr, flush=True)
    kind = type(error).__name__
    out_of_memory = kind in ("MemoryError", "ResourceExhaustedError")
    return JobError("oom" if out_of_memory else "failed", f"{kind}: {str(error).strip()[:500]}")


def lost(overrides: Sequence[str], error: JobError) -> JobReturn:
    """What comes back of a job that returned nothing."""
    result = JobReturn(overrides=list(overrides), status=JobStatus.FAILED)
    result._return_value = error
    return result


def is_pruned(result: JobReturn) -> bool:
    """Whether a job was stopped by its study."""
    return result.status == JobStatus.FAILED and isinstance(result._return_value, PrunedError)


def _exit(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


def _redirect(log: Path) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as stream:
        for descriptor in (1, 2):
            os.dup2(stream.fileno(), descriptor)


def _use(cores: tuple[int, ...]) -> None:
    """Bind this process to `cores`, before TensorFlow counts them."""
    if not cores:
        return
    os.environ["OMP_NUM_THREADS"] = os.environ["TF_NUM_INTRAOP_THREADS"] = str(len(cores))
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)


def _watch(parent: int, memory_gb: float | None, folder: Path) -> None:
    """End this process with its parent, or when it holds more than it may."""
    me = psutil.Process()
    while os.getppid() == parent:
        held = me.memory_info().rss / 1e9 if memory_gb is not None else 0.0
        if memory_gb is not None and held > memory_gb:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / OVER_MEMORY).write_text(
                f"it held {held:.1f} GB, more than hydra.launcher.memory_gb={memory_gb:g}"
            )
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(WATCH_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(20)  # a run is closed within that
    os._exit(1)
