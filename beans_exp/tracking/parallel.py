"""Many runs read or drawn by a few processes: one alone would spend its time in Python."""

import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache
from multiprocessing import get_context
from typing import TypeVar

import mlflow

from beans_exp.errors import BeansExpError
from beans_exp.tracking.artifact_hosts import select_store

FEW = 8
"""Items for which starting processes is not worth it."""
MOST, AHEAD = 4, 16
"""The number of processes, and how many items they may be ahead of the caller, at most."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_processes(task: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """Yield `task(item)` for each of `items`, in order; `task` is a function of a module, and raises BeansExpError."""
    if len(items) <= FEW:
        yield from map(task, items)
        return
    pending: deque[Future[Result]] = deque()
    with _pool(task.__module__, len(items)) as pool:
        try:
            for item in items:
                pending.append(pool.submit(task, item))
                if len(pending) == AHEAD:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        except BrokenProcessPool as error:
            raise BeansExpError("a process died, perhaps for lack of memory. Run the same command again") from error
        finally:
            pool.shutdown(cancel_futures=True)


@lru_cache(maxsize=1)
def client_of(uri: str) -> mlflow.MlflowClient:
    """Return this process's client for the store at `uri`, which also becomes MLflow's default."""
    select_store(uri)
    return mlflow.MlflowClient(uri)


def _pool(module: str, items: int) -> ProcessPoolExecutor:
    """Processes that fork from one that has imported `module`, where the system can."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    context = get_context("spawn" if sys.platform == "win32" else "forkserver")
    if sys.platform != "win32":
        context.set_forkserver_preload([module])
    return ProcessPoolExecutor(min(max(2, cores), MOST, items), context, initializer=_ignore_interrupts)


def _ignore_interrupts() -> None:
    """Leave Ctrl-C to the parent process, which starts no further item."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
