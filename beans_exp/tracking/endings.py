"""How a run ends: the status that follows from the error which ended it."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

import mlflow
import sqlalchemy.exc
import tensorflow as tf

from beans_exp.errors import BeansExpError, DivergedError, PrunedError, StorageError, StoreError, first_line

FULL = tuple(os.strerror(code) for code in (errno.ENOSPC, errno.EDQUOT))
"""What libraries that raise errors of their own, such as HDF5 and TensorFlow, quote of a full disk."""


def is_storage_error(error: BaseException) -> bool:
    """Whether a disk, a store or a pipe failed, which says nothing about the run."""
    storage = OSError | StoreError | mlflow.MlflowException | sqlalchemy.exc.SQLAlchemyError
    return isinstance(error, storage) or (isinstance(error, Exception) and any(text in str(error) for text in FULL))


def statuses(error: BaseException) -> tuple[str, str]:
    """Return the `beans.status` and MLflow's own status of a run that ended with `error`."""
    if isinstance(error, KeyboardInterrupt | SystemExit) or is_storage_error(error):
        return "killed", "KILLED"
    if isinstance(error, PrunedError):
        return "pruned", "KILLED"
    if isinstance(error, MemoryError | tf.errors.ResourceExhaustedError):
        return "oom", "FAILED"
    return ("diverged" if isinstance(error, DivergedError) else "failed"), "FAILED"


def is_settled(error: BaseException) -> bool:
    """Whether `error` is a result: training again would end the same way, and the checkpoint is not needed."""
    return isinstance(error, DivergedError | PrunedError)


@contextmanager
def storage_errors_as_messages() -> Iterator[None]:
    """Turn the errors of disks and stores into a StorageError of one line."""
    try:
        yield
    except BeansExpError:
        raise
    except Exception as error:
        if not is_storage_error(error):
            raise
        kept = "The run keeps its checkpoint and its id: run the same command again once the cause is removed"
        raise StorageError(f"{type(error).__name__}: {first_line(error)}. {kept}") from error
