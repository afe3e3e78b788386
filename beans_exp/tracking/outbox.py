"""Sinks for the messages of a run: a store that takes them at once, or a server that may be unreachable."""

import logging
import shlex
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Protocol

import mlflow
from filelock import Timeout
from mlflow.exceptions import MlflowException

from beans_exp.errors import StoreError
from beans_exp.tracking.message_queue import MessageQueue, WriteBody, find_queues, new_queue
from beans_exp.tracking.messages import Message, deliver
from beans_exp.tracking.reachability import UNREACHABLE, is_server, reason_of

log = logging.getLogger(__name__)

RETRY_SECONDS = 2.0
WAIT_SECONDS = 30.0
"""How long a run that has ended waits for an unreachable server."""


class Sink(Protocol):
    """Where the messages of a run go."""

    def send(self, kind: str, content: dict[str, Any], name: str = "", write: WriteBody | None = None) -> None:
        """Send a message; `write` makes its body, a file or folder `name`, at the path it is given."""

    def close(self) -> None:
        """End sending."""


class DirectSink:
    """A sink for a file or database: each message is delivered before `send` returns."""

    def __init__(self, client: mlflow.MlflowClient, run_id: str) -> None:
        self.client = client
        self.run_id = run_id

    def send(self, kind: str, content: dict[str, Any], name: str = "", write: WriteBody | None = None) -> None:
        with tempfile.TemporaryDirectory() as folder:
            body = Path(folder) / name
            if write is not None:
                write(body)
            deliver(self.client, self.run_id, Message(kind, content, body if write else None))

    def close(self) -> None:
        """Do nothing: everything is delivered."""


class Outbox:
    """A sink for a server: a thread delivers the messages of a queue, and retries while the server is unreachable."""

    def __init__(self, queue: MessageQueue, *, retrying: bool = False) -> None:
        queue.lock.acquire()
        self.queue = queue
        self.closing = threading.Event()
        self.added = threading.Event()
        self.retrying = retrying
        """Whether the last attempt to deliver failed, which was logged."""
        self.stopped = False
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    def send(self, kind: str, content: dict[str, Any], name: str = "", write: WriteBody | None = None) -> None:
        self.queue.add(kind, content, name, write)
        self.added.set()

    def close(self) -> None:
        """Wait for all messages to be delivered, at most `WAIT_SECONDS` if the server is unreachable; log the rest."""
        self.closing.set()
        self.added.set()
        deadline = time.monotonic() + WAIT_SECONDS
        while self.thread.is_alive() and not (self.retrying and time.monotonic() > deadline):
            self.thread.join(0.1)
        self.stopped = True
        if count := len(self.queue.pending):
            self._log_pending(count)
        else:
            self.queue.remove_if_delivered()
        self.queue.lock.release()

    def _work(self) -> None:
        while not self.stopped:
            self.added.clear()
            try:
                self._deliver_all()
                if self.closing.is_set():
                    return
                self.added.wait()
            except Exception as error:  # whatever a network can raise; the message stays in the queue
                if not self.retrying:
                    log.warning(UNREACHABLE, self.queue.address.uri, reason_of(error))
                self.retrying = True
                time.sleep(RETRY_SECONDS)

    def _deliver_all(self) -> None:
        while self.queue.deliver_next():
            if self.retrying:
                log.warning("%s is reachable again", self.queue.address.uri)
            self.retrying = False

    def _log_pending(self, count: int) -> None:
        uri, folder = self.queue.address.uri, self.queue.folder
        rule = f"Once it is reachable, send them with: python -m beans_exp.sync {shlex.quote(str(folder.parents[1]))}"
        log.warning("%d updates for %s are saved in %s. %s", count, uri, folder, rule)


def open_sink(
    client: mlflow.MlflowClient, uri: str, experiment: str, fingerprint: str, run_id: str, folder: Path
) -> Sink:
    """Return the sink of a run that exists in the store at `uri`; messages to a server are queued in `folder`."""
    if is_server(uri):
        return Outbox(new_queue(folder, uri, experiment, fingerprint, run_id, None))
    return DirectSink(client, run_id)


def send_queued(folder: Path) -> tuple[int, bool]:
    """Deliver the messages that processes left in a run's `folder`.

    Return how many there were, and whether a running process is sending others. Raises StoreError if the server does
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


def _deliver_all(queue: MessageQueue) -> int:
    """Deliver the pending messages of a queue and return how many there were."""
    count = 0
    try:
        while queue.deliver_next():
            count += 1
    except (MlflowException, OSError) as error:
        rule = f"The updates stay in {queue.folder}. Send them later"
        raise StoreError(f"{queue.address.uri} is unreachable ({reason_of(error)}). {rule}") from error
    return count
