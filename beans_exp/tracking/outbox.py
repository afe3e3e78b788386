"""Sinks for the messages of a run: a store that takes them at once, or a queue for one that may be unavailable."""

import logging
import shlex
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import mlflow
from filelock import Timeout

from beans_exp.errors import StoreError, StoreUnavailableError
from beans_exp.schema import TrackingConfig
from beans_exp.tracking.message_queue import MessageQueue, WriteBody, find_queues, folders_with_messages, new_queue
from beans_exp.tracking.messages import Message, deliver
from beans_exp.tracking.patience import RETRY_SECONDS, retry_full_disk
from beans_exp.tracking.reachability import UNREACHABLE, is_server, reason_of
from beans_exp.tracking.store_errors import may_pass, store_errors

log = logging.getLogger(__name__)

QUIET_SECONDS = 5.0
"""Closing an outbox is announced if it takes longer."""
LAST_SECONDS = 5.0
"""How long a closed outbox waits for the request that is under way, which holds the lock of its queue."""
LOCK_SECONDS = 2.0
"""How long a process that has ended may hold the lock of its queue."""


class Sink(Protocol):
    """Where the messages of a run go."""

    def send(self, kind: str, content: dict[str, Any], name: str = "", write: WriteBody | None = None) -> None:
        """Send a message; `write` makes its body, a file or folder `name`, at the path it is given."""

    def close(self) -> None:
        """End sending."""


class Outbox:
    """A sink whose thread delivers the messages of a queue, and retries while their store is unavailable."""

    def __init__(
        self, queue: MessageQueue, *, retrying: bool = False, patience: float = TrackingConfig.patience
    ) -> None:
        queue.lock.acquire()
        self.queue = queue
        self.patience = patience
        """Seconds that closing may take, and that a full disk is waited for."""
        self.closing = threading.Event()
        self.added = threading.Event()
        self.retrying = retrying
        """Whether the last attempt to deliver failed, which was logged."""
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    def send(self, kind: str, content: dict[str, Any], name: str = "", write: WriteBody | None = None) -> None:
        retry_full_disk(self.patience, partial(self.queue.add, kind, content, name, write))
        self.added.set()

    def close(self) -> None:
        """Wait for all messages to be delivered, for `patience` seconds at most; log what is left."""
        self.closing.set()
        self.added.set()
        self.thread.join(min(QUIET_SECONDS, self.patience))
        if self.thread.is_alive():
            text = "sending the last %d updates to %s, for %g seconds at most (tracking.patience)"
            log.warning(text, len(self.queue.pending), self.queue.address.uri, self.patience)
            self.thread.join(max(0.0, self.patience - QUIET_SECONDS))
        self.stopped.set()
        self.thread.join(LAST_SECONDS)
        if count := len(self.queue.pending):
            self._log_pending(count)

    def _work(self) -> None:
        """Deliver messages until the outbox is closed; the thread holds the queue's lock as long as it may deliver."""
        try:
            while not self.stopped.is_set() and not self._is_done():
                self.added.wait()
        finally:
            with suppress(OSError):
                self.queue.remove_if_delivered()
            self.queue.lock.release()

    def _is_done(self) -> bool:
        """Deliver what is pending; return whether no more messages will come."""
        self.added.clear()
        try:
            self._deliver_all()
            return self.closing.is_set()
        except Exception as error:  # whatever a network can raise; the message stays in the queue
            if not self.retrying:
                log.warning(UNREACHABLE, self.queue.address.uri, reason_of(error))
            self.retrying = True
            self.stopped.wait(RETRY_SECONDS)
            self.added.set()
        return False

    def _deliver_all(self) -> None:
        while not self.stopped.is_set() and self.queue.deliver_next():
            if self.retrying:
                log.warning("%s is reachable again", self.queue.address.uri)
            self.retrying = False

    def _log_pending(self, count: int) -> None:
        uri, folder = self.queue.address.uri, self.queue.folder
        rule = f"Once it is reachable, send them with: python -m beans_exp.sync {shlex.quote(str(folder.parents[1]))}"
        log.warning("%d updates for %s are saved in %s. %s", count, uri, folder, rule)


class DirectSink:
    """A sink for a file or database: each message is delivered before `send` returns.

    Once one cannot be, because the database is locked or a disk is full, it and all later ones go to an outbox.
    """

    def __init__(
        self,
        client: mlflow.MlflowClient,
        run_id: str,
        open_outbox: Callable[[], Outbox] | None = None,
        patience: float = TrackingConfig.patience,
    ) -> None:
        """Prepare to send; without `open_outbox` the error of a message that cannot be delivered is raised."""
        self.client = client
        self.run_id = run_id
        self.open_outbox = open_outbox
        self.patience = patience
        self.outbox: Outbox | None = None

    def send(self, kind: str, content: dict[str, Any], name: str = "", write: WriteBody | None = None) -> None:
        if self.open_outbox is None:
            self._deliver(kind, content, name, write)
        elif self.outbox is None:
            retry_full_disk(self.patience, partial(self._deliver_or_queue, kind, content, name, write))
        else:
            self.outbox.send(kind, content, name, write)

    def close(self) -> None:
        if self.outbox is not None:
            self.outbox.close()

    def _deliver_or_queue(self, kind: str, content: dict[str, Any], name: str, write: WriteBody | None) -> None:
        """Raise OSError only if neither the store nor the queue takes the message."""
        assert self.open_outbox is not None
        uri = self.client.tracking_uri
        try:
            self._deliver(kind, content, name, write)
        except Exception as error:
            if not may_pass(uri, error):
                raise
            log.warning(UNREACHABLE, uri, reason_of(error))
            self.outbox = self.outbox or self.open_outbox()
            self.outbox.queue.add(kind, content, name, write)
            self.outbox.added.set()

    def _deliver(self, kind: str, content: dict[str, Any], name: str, write: WriteBody | None) -> None:
        with tempfile.TemporaryDirectory() as folder:
            body = Path(folder) / name
            if write is not None:
                write(body)
            deliver(self.client, self.run_id, Message(kind, content, body if write else None))


def open_sink(
    client: mlflow.MlflowClient, experiment: str, fingerprint: str, run_id: str, folder: Path, patience: float
) -> Sink:
    """Return the sink of a run that exists in the store of `client`.

    Messages are queued in `folder`: all of those to a server, and those that a database cannot take at the moment.
    """
    uri = client.tracking_uri

    def open_outbox(*, retrying: bool = True) -> Outbox:
        queue = new_queue(folder, uri, experiment, fingerprint, run_id, None)
        return Outbox(queue, retrying=retrying, patience=patience)

    return open_outbox(retrying=False) if is_server(uri) else DirectSink(client, run_id, open_outbox, patience)


def send_queued(folder: Path) -> tuple[int, bool]:
    """Deliver the messages that processes left in a run's `folder`.

    Return how many there were, and whether a running process is sending others. Raises StoreError if the store does
    not accept them; those that were delivered are not sent again.
    """
    count, in_use = 0, False
    for queue in find_queues(folder):
        try:
            with queue.lock.acquire(timeout=0):
                count += _deliver_all(queue)
                queue.remove_if_delivered()
        except Timeout:
            in_use = True
    return count, in_use


def send_all_queued(folder: Path, patience: float = float("inf")) -> int:
    """Deliver the messages in the folders at and below `folder`; return how many are left, after a warning.

    Each run has `patience` seconds, as for closing its outbox.
    """
    failed: set[str] = set()
    for queue in [queue for place in folders_with_messages(folder) for queue in find_queues(place)]:
        if queue.address.uri in failed:  # it is asked once
            continue
        try:
            with queue.lock.acquire(timeout=LOCK_SECONDS):
                _deliver_all(queue, patience)
                queue.remove_if_delivered()
        except Timeout:  # a running process sends them, such as this one those of the parent run
            continue
        except StoreError as error:
            log.warning("%s", error)
            failed.add(queue.address.uri)
    return count_queued(folder)


def count_queued(folder: Path) -> int:
    """Return the number of messages at and below `folder` that were not delivered."""
    places = folders_with_messages(folder)
    return sum(len(queue.pending) for place in places for queue in find_queues(place))


def _deliver_all(queue: MessageQueue, seconds: float = float("inf")) -> int:
    """Deliver the pending messages of a queue, for `seconds` at most, and return how many there were."""
    count = 0
    deadline = time.monotonic() + seconds
    try:
        with store_errors(queue.address.uri):
            while time.monotonic() <= deadline and queue.deliver_next():
                count += 1
    except (StoreError, OSError) as error:
        rule = f"The updates stay in {queue.folder}. Send them later"
        kind = type(error) if isinstance(error, StoreError) else StoreUnavailableError
        raise kind(f"{queue.address.uri} is unreachable ({reason_of(error)}). {rule}") from error
    return count
