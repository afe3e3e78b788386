"""How every command of the project brings in its heavy libraries: quietly, and without needless work."""

import gc
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

Task = TypeVar("Task", bound=Callable[..., object])

VARIABLES = {
    "TF_CPP_MIN_LOG_LEVEL": "3",  # TensorFlow's start-up notes are not ours
    "TF_ENABLE_ONEDNN_OPTS": "1",  # twice as fast on CPUs where TensorFlow leaves it off
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}
"""Set where the user has not: before TensorFlow and MLflow are imported."""
RESERVED_CORES = ("OMP_NUM_THREADS", "SLURM_CPUS_PER_TASK")
"""How many cores a job has, where nothing binds it to them: set by Ray, and by Slurm; TensorFlow reads neither."""


def quiet_libraries() -> None:
    """Set `VARIABLES`, and keep the libraries' notes out of the log; call it before they are imported."""
    for name, value in VARIABLES.items():
        os.environ.setdefault(name, value)
    for name in ("absl", "alembic", "matplotlib"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it warns that each run traces its own functions


def use_reserved_cores() -> None:
    """Let TensorFlow compute on `RESERVED_CORES`; where a run is trained, for a sweep's jobs inherit its variables."""
    for name in RESERVED_CORES:
        if name in os.environ:
            os.environ.setdefault("TF_NUM_INTRAOP_THREADS", os.environ[name])


def preloads(*modules: str) -> Callable[[Task], Task]:
    """Mark a task function: a launcher that forks its jobs may import `modules` once, for all of them."""

    def mark(task: Task) -> Task:
        task.__dict__["preload"] = modules
        return task

    return mark


@contextmanager
def silent_stderr() -> Iterator[None]:
    """Drop what C++ libraries print while they are loaded; Python's exceptions come through."""
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
    """Do without Python's search for garbage while libraries are imported: they make much and drop little.

    Measured at 1.3 of 8.5 seconds for MLflow and TensorFlow. What was made is left out of later searches, too. Does
    nothing once TensorFlow is there: what a job has left must not be kept from them.
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
