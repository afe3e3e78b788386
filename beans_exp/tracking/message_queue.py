"""Messages of runs on disk, in order, until their server has them: a killed process loses none."""

import logging
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import mlflow
from filelock import FileLock
from mlflow.exceptions import MlflowException

from beans_exp.files import measure_folder, remove, sync, sync_tree, write_json
from beans_exp.tracking import tags
from beans_exp.tracking.creation import create_once
from beans_exp.tracking.messages import Message, deliver
from beans_exp.tracking.queue_files import (
    ADDRESS,
    ASIDE,
    MESSAGE,
    REJECTED,
    SENT,
    Address,
    delivered_message,
    has_whole_body,
    pending_file,
    pending_message,
    read_address,
)
from beans_exp.tracking.store import open_store
from beans_exp.tracking.store_errors import may_pass

log = logging.getLogger(__name__)

OUTBOX = "outbox"
"""The folder of queues, in the run's folder; each run that was started there has a queue of its own."""
LOCK = ".lock"
INCOMPLETE = {tags.STATUS: "killed", tags.CAUSE: "a saved update was damaged; run the same command again"}
"""The tags of a run that ended well, but has lost a message: it is not reused."""

WriteBody = Callable[[Path], object]
"""Writes the file or folder that belongs to a message, at the given path."""


class MessageQueue:
    """A folder of numbered messages, each whole or absent; later processes can append to it and deliver it."""

    def __init__(self, folder: Path, address: Address) -> None:
        self.folder = folder
        self.address = address
        self.lock = FileLock(folder / LOCK, thread_local=False)
        """Held by the process that delivers the messages, until it ends."""
        self.count = max((int(slot.name) + 1 for slot in self._slots()), default=0)
        self.first = 0
        """The number of the first message that may be pending."""

    def add(self, kind: str, content: dict[str, Any], name: str = "", write: WriteBody | None = None) -> None:
        """Append a message; it is on disk when this returns. `write` makes its body, a file or folder `name`."""
        slot = self._slot(self.count)
        remove(slot)  # without a message, if its writer was killed
        slot.mkdir()
        sync(self.folder)
        if write is not None:
            write(slot / name)
            sync_tree(slot / name)
        message = {"kind": kind, "content": content, "name": name, "files": measure_folder(slot)}
        write_json(slot / MESSAGE, message)
        self.count += 1

    @property
    def pending(self) -> list[Path]:
        """The folders of the messages that were not delivered yet, in order."""
        return [slot for slot in self._slots() if pending_message(slot)]

    @property
    def rejected(self) -> list[Path]:
        """The folders of the messages that the store rejected for good."""
        return [slot for slot in self._slots() if (slot / REJECTED).is_file()]

    @property
    def is_damaged(self) -> bool:
        """Whether a message could not be read."""
        return any(self.folder.glob(f"*/*{ASIDE}"))

    @property
    def logged(self) -> set[tuple[str, int]]:
        """The (metric, step) pairs of all messages, delivered or not."""
        batches = [message["content"]["points"] for message in self._messages() if message["kind"] == "metrics"]
        return {(name, step) for points in batches for name, _, _, step in points}

    def last_content(self, kind: str) -> dict[str, Any] | None:
        """Return the content of the last message of `kind`, delivered or not; None without one."""
        return next((message["content"] for message in reversed(self._messages()) if message["kind"] == kind), None)

    def deliver_next(self) -> bool:
        """Deliver the first pending message and return whether there was one; raises what MLflow raises."""
        while self.first < self.count:
            slot = self._slot(self.first)
            message = pending_message(slot)
            if message and has_whole_body(slot, message):
                self._deliver(slot, message)
                return True
            self.first += 1
        return False

    def _deliver(self, slot: Path, message: dict[str, Any]) -> None:
        client = mlflow.MlflowClient(self.address.uri)
        run_id = self._run_id(client)
        body = slot / message["name"] if message["name"] else None
        content = message["content"]
        file = pending_file(slot)
        assert file is not None
        try:
            if message["kind"] == "end" and content["status"] == "FINISHED" and self.is_damaged:
                deliver(client, run_id, Message("tags", INCOMPLETE))
                content = content | {"status": "KILLED"}
            deliver(client, run_id, Message(message["kind"], content, body))
        except MlflowException as error:
            if may_pass(self.address.uri, error) or not 400 <= error.get_http_status_code() < 500:
                raise
            log.error("%s rejects an update of run %s, which is saved in %s: %s", self.address.uri, run_id, slot, error)
            file.rename(slot / REJECTED)
            return
        file.rename(slot / SENT)
        if body is not None:
            remove(body)

    def remove_if_delivered(self) -> None:
        """Remove the queue unless a message is pending, was rejected or cannot be read."""
        if not self.pending and not self.rejected and not self.is_damaged:
            remove(self.folder)
            with suppress(OSError):  # another run's queue
                self.folder.parent.rmdir()

    def _run_id(self, client: mlflow.MlflowClient) -> str:
        """The run that the messages are about, created now if it does not exist."""
        if self.address.run_id is None:
            self.address = replace(self.address, run_id=_create_run(client, self.address))
            write_json(self.folder / ADDRESS, asdict(self.address))
        assert self.address.run_id is not None
        return self.address.run_id

    def _messages(self) -> list[dict[str, Any]]:
        found = (pending_message(slot) or delivered_message(slot) for slot in self._slots())
        return [message for message in found if message]

    def _slot(self, number: int) -> Path:
        return self.folder / f"{number:06d}"

    def _slots(self) -> Iterator[Path]:
        return iter(sorted(slot for slot in self.folder.glob("[0-9]*") if slot.is_dir()))


def new_queue(
    folder: Path,
    uri: str,
    experiment: str,
    fingerprint: str,
    run_id: str | None,
    new: dict[str, Any] | None,
    key: str | None = None,
) -> MessageQueue:
    """Create the queue of a run in its `folder`: of the run `run_id`, or of one to be created from `new`.

    `key` is the queue's id: that of an earlier attempt to create the run, or, if `new` says `resumed`, the run's own.
    """
    address = Address(uri, experiment, fingerprint, run_id, key or uuid.uuid4().hex, new)
    place = folder / OUTBOX / (uuid.uuid4().hex if key else address.id)[:8]
    place.mkdir(parents=True)
    sync(place.parent)
    write_json(place / ADDRESS, asdict(address))
    return MessageQueue(place, address)


def find_queues(folder: Path) -> list[MessageQueue]:
    """Return the queues that processes left in a run's `folder`, the oldest first."""
    files = sorted((folder / OUTBOX).glob(f"*/{ADDRESS}"), key=lambda file: file.stat().st_ctime)
    found = [(file, read_address(file)) for file in files]
    return [MessageQueue(file.parent, address) for file, address in found if address]


def find_queue(folder: Path, fingerprint: str, run_id: str) -> MessageQueue | None:
    """Return the queue in `folder` of the run `run_id`, which is the queue's own id until the run exists; or None."""
    found = [queue for queue in find_queues(folder) if queue.address.fingerprint == fingerprint]
    return next((queue for queue in found if run_id in (queue.address.run_id, queue.address.id)), None)


def folders_with_messages(folder: Path) -> list[Path]:
    """Return the folders of runs and sweeps at and below `folder` that have queues."""
    return sorted({file.parents[2] for file in folder.glob(f"**/{OUTBOX}/*/{ADDRESS}")})


def queued_objective(folder: Path, fingerprint: str) -> float | list[float] | None:
    """Return the objective of a finished run whose messages are queued in `folder`; None without one."""
    for queue in find_queues(folder):
        end = queue.last_content("end")
        is_whole = queue.address.fingerprint == fingerprint and not queue.is_damaged
        if is_whole and end and end["status"] == "FINISHED":
            return end["objective"]
    return None


def _create_run(client: mlflow.MlflowClient, address: Address) -> str:
    """The run of `address`: one that an earlier attempt created, or a new one; a sweep has one parent run."""
    assert address.new is not None
    experiment_id = open_store(address.uri, address.experiment)
    if "resumed" in address.new and client.search_runs([experiment_id], f"attributes.run_id = '{address.id}'"):
        return address.id
    run_tags = dict(address.new["tags"])
    is_parent, sweep = tags.ROLE in run_tags, run_tags.get(tags.SWEEP)
    query = tags.is_parent_of(str(sweep)) if is_parent else tags.equals(tags.OUTBOX, address.id)
    if sweep is not None and not is_parent and tags.PARENT_RUN not in run_tags:
        run_tags[tags.PARENT_RUN] = _parent_run(client, experiment_id, sweep)
    run_tags[tags.OUTBOX] = address.id
    return create_once(client, experiment_id, query, run_tags, address.new["name"], address.new["started"])


def _parent_run(client: mlflow.MlflowClient, experiment_id: str, sweep: str) -> str:
    """The parent run of `sweep`, created now if its own messages were not delivered yet."""
    return create_once(client, experiment_id, tags.is_parent_of(sweep), tags.parent_tags(sweep))
