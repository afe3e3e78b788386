"""Import heavy libraries quietly, and without needless work."""

import gc
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

Task = TypeVar("Task", bound=Callable[..., object])

VARIABLES = {
    "TF_CPP_MIN_LOG_LEVEL": "3",  # no start-up notes
    "TF_ENABLE_ONEDNN_OPTS": "1",  # twice as fast on CPUs where it is off by default
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",  # otherwise one bar per file of each run
}
"""Defaults that must be set before TensorFlow and MLflow are imported."""
RESERVED_CORES = ("OMP_NUM_THREADS", "SLURM_CPUS_PER_TASK")
"""Variables in which Ray and Slurm give the number of reserved cores; TensorFlow reads neither."""


def quiet_libraries() -> None:
    """Set `VARIABLES` and silence the libraries' loggers; call it before they are imported."""
    for name, value in VARIABLES.items():
        os.environ.setdefault(name, value)
    for name in ("absl", "alembic", "matplotlib"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it warns about each run tracing its own functions
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # its tracebacks are of errors that it raises


def use_reserved_cores() -> None:
    """Limit TensorFlow to `RESERVED_CORES`; called in the process that trains, since jobs inherit variables."""
    for name in RESERVED_CORES:
        if name in os.environ:
            os.environ.setdefault("TF_NUM_INTRAOP_THREADS", os.environ[name])


def preloads(*modules: str) -> Callable[[Task], Task]:
    """Mark a task function with `modules` that a launcher may import once before it forks jobs."""

    def mark(task: Task) -> Task:
        task.__dict__["preload"] = modules
        return task

    return mark


@contextmanager
def silent_stderr() -> Iterator[None]:
    """Discard the output of C++ libraries while they load; Python exceptions pass through."""
    sys.stderr.flush()
    terminal, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)
        os.close(nowhere)


@contextmanager
def no_collections() -> Iterator[None]:
    """Pause garbage collection while libraries are imported: they allocate a lot and free little.

    Saves 1.3 of 8.5 seconds for MLflow and TensorFlow. The imported objects are excluded from later collections, too.
    Does nothing once TensorFlow is imported: garbage of an earlier job must stay collectable.
    """
    if "tensorflow" in sys.modules:
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
