"""Patience with a store that is unavailable for a while: the same request again, for a bounded time."""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from beans_exp.errors import StoreError
from beans_exp.tracking.reachability import reason_of
from beans_exp.tracking.store_errors import passes, store_errors

log = logging.getLogger(__name__)

RETRY_SECONDS = 2.0
Answer = TypeVar("Answer")


def patiently(uri: str, patience: float, ask: Callable[[], Answer]) -> Answer:
    """Return `ask()`, repeated for up to `patience` seconds while the store at `uri`, which worked before, does not.

    Raises StoreError if it still does not, and at once if that would not help.
    """
    deadline = None
    while True:
        try:
            with store_errors(uri):
                return ask()
        except StoreError as error:
            if not passes(uri, error):
                raise
            if deadline is None:
                deadline = time.monotonic() + patience
                log.warning("%s: %s; trying for %g seconds (tracking.patience)", uri, reason_of(error), patience)
            if time.monotonic() >= deadline:
                raise
        time.sleep(min(RETRY_SECONDS, patience))


def retry_full_disk(patience: float, write: Callable[[], Answer]) -> Answer:
    """Return `write()`, repeated for up to `patience` seconds while it raises OSError, such as that of a full disk."""
    deadline = None
    while True:
        try:
            return write()
        except OSError as error:
            if deadline is None:
                deadline = time.monotonic() + patience
                log.warning("%s; trying for %g seconds (tracking.patience)", error, patience)
            if time.monotonic() >= deadline:
                raise
        time.sleep(min(RETRY_SECONDS, patience))
