"""Messages of a run to its server, on disk in order until they are delivered: training never waits for the network."""

import json
import logging
import shutil
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import mlflow
from filelock import FileLock, Timeout
from mlflow.exceptions import MlflowException

from beans_exp.errors import StoreError
from beans_exp.tracking.messages import Message, deliver
from beans_exp.tracking.store import is_server, open_store

log = logging.getLogger(__name__)

NAME = "outbox"
"""The folder of letters, in the run's folder; each run that was started there has its own in it."""
LOCK = ".lock"
ADDRESS, LETTER, SENT, REFUSED = "address.json", "letter.json", "sent.json", "refused.json"
TAG = "beans.outbox"
"""The tag of a run that was made for letters written while its server was away."""
PARENT = "mlflow.parentRunId"
RETRY_SECONDS = 2.0
WAIT_SECONDS = 30.0
"""How long the end of a run waits for a server that does not answer."""
PASSING = (401, 403, 408, 429)
"""Answers below 500 that may change without the letter changing."""

Write = Callable[[Path], None]


class Sink(Protocol):
    """Where a run's letters go."""

    def send(self, kind: str, content: dict[str, Any], name: str = "", write: Write | None = None) -> None:
        """Send a letter; `write` makes the file or folder `name` that goes with it, at the path it is given."""

    def close(self) -> None:
        """Nothing more is sent."""


class DirectSink:
    """To a store that is always there: each letter is delivered at once."""

    def __init__(self, client: mlflow.MlflowClient, run_id: str) -> None:
        self.client = client
        self.run_id = run_id

    def send(self, kind: str, content: dict[str, Any], name: str = "", write: Write | None = None) -> None:
        with tempfile.TemporaryDirectory() as folder:
            body = _written(Path(folder), name, write)
            deliver(self.client, self.run_id, Message(kind, content, body))

    def close(self) -> None:
        """Everything has arrived."""


@dataclass(frozen=True)
class Address:
    """Whose letters these are; `run_id` is None until the run is in the store, made with what `new` says."""

    uri: str
    experiment: str
    fingerprint: str
    run_id: str | None
    id: str
    new: dict[str, Any] | None = None
    """`name`, `tags` and `started` of a run that the store does not have yet."""


class MessageQueue:
    """A folder of letters: numbered, each whole or not there, gone on with after a kill."""

    def __init__(self, folder: Path, address: Address) -> None:
        self.folder = folder
        self.address = address
        self.lock = FileLock(folder / LOCK, thread_local=False)
        """Held by the process that delivers them, until it ends."""
        self.count = max((int(place.name) + 1 for place in self._places()), default=0)
        self.first = 0
        """The first one that may wait: those before were delivered or refused."""

    @classmethod
    def found(cls, folder: Path) -> "list[MessageQueue]":
        """The letters that processes left in a run's `folder`, those of each run, the first written first."""
        files = sorted((folder / NAME).glob(f"*/{ADDRESS}"), key=lambda file: file.stat().st_ctime)
        return [cls(file.parent, Address(**json.loads(file.read_text()))) for file in files]

    def add(self, kind: str, content: dict[str, Any], name: str, write: Write | None) -> None:
        """Write a letter."""
        place = self._place(self.count)
        shutil.rmtree(place, ignore_errors=True)  # without its letter: its writer was killed
        place.mkdir()
        _written(place, name, write)
        _write_whole(place / LETTER, {"kind": kind, "content": content, "name": name})
        self.count += 1

    @property
    def waiting(self) -> list[Path]:
        """The letters that were not delivered yet, in order."""
        return [place for place in self._places() if (place / LETTER).is_file()]

    @property
    def refused(self) -> list[Path]:
        """The letters that the store will not take."""
        return [place for place in self._places() if (place / REFUSED).is_file()]

    @property
    def logged(self) -> set[tuple[str, int]]:
        """The (metric, step) pairs of every letter, delivered or not."""
        said = [letter["content"]["points"] for letter in self._every() if letter["kind"] == "metrics"]
        points = [point for points in said for point in points]
        return {(name, step) for name, _, _, step in points}

    def content_of(self, kind: str) -> dict[str, Any] | None:
        """The content of the last letter of `kind`, delivered or not; None where there is none."""
        return next((letter["content"] for letter in reversed(self._every()) if letter["kind"] == kind), None)

    def deliver_next(self) -> bool:
        """Deliver the first letter that waits, and return whether there was one; raises what MLflow raises."""
        while self.first < self.count and not (self._place(self.first) / LETTER).is_file():
            self.first += 1
        if self.first == self.count:
            return False
        self._deliver(self._place(self.first))
        return True

    def _deliver(self, place: Path) -> None:
        client = mlflow.MlflowClient(self.address.uri)
        run_id = self._run(client)
        letter = json.loads((place / LETTER).read_text())
        body = place / letter["name"] if letter["name"] else None
        try:
            deliver(client, run_id, Message(letter["kind"], letter["content"], body))
        except MlflowException as error:
            if not _is_final(error):
                raise
            log.error("the server refuses a letter of run %s, kept in %s: %s", run_id, place, error)
            (place / LETTER).rename(place / REFUSED)
            return
        (place / LETTER).rename(place / SENT)
        if body is not None:
            shutil.rmtree(body, ignore_errors=True) if body.is_dir() else body.unlink()

    def remove(self) -> None:
        """Forget letters that have all arrived."""
        if not self.waiting and not self.refused:
            shutil.rmtree(self.folder, ignore_errors=True)
            with suppress(OSError):  # another run's letters
                self.folder.parent.rmdir()

    def _run(self, client: mlflow.MlflowClient) -> str:
        """The run that the letters are about, made now where the store does not have it."""
        if self.address.run_id is None:
            self.address = replace(self.address, run_id=_made(client, self.address))
            _write_whole(self.folder / ADDRESS, asdict(self.address))
        assert self.address.run_id is not None
        return self.address.run_id

    def _every(self) -> list[dict[str, Any]]:
        states = [place / name for place in self._places() for name in (LETTER, SENT, REFUSED)]
        return [json.loads(file.read_text()) for file in states if file.is_file()]

    def _place(self, number: int) -> Path:
        return self.folder / f"{number:06d}"

    def _places(self) -> Iterator[Path]:
        return iter(sorted(place for place in self.folder.glob("[0-9]*") if place.is_dir()))


class Outbox:
    """To a server: a thread of its own delivers the letters, as long as it takes."""

    def __init__(self, letters: MessageQueue) -> None:
        letters.lock.acquire()
        self.letters = letters
        self.closing = threading.Event()
        self.written = threading.Event()
        self.behind = False
        """Whether the server did not take the last letter that was tried."""
        self.over = False
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    def send(self, kind: str, content: dict[str, Any], name: str = "", write: Write | None = None) -> None:
        self.letters.add(kind, content, name, write)
        self.written.set()

    def close(self) -> None:
        """Wait until every letter has arrived, `WAIT_SECONDS` for a server that does not answer; say what is left."""
        self.closing.set()
        self.written.set()
        ends = time.monotonic() + WAIT_SECONDS
        while self.thread.is_alive() and not (self.behind and time.monotonic() > ends):
            self.thread.join(0.1)
        self.over = True
        if left := len(self.letters.waiting):
            _say_left(left, self.letters)
        else:
            self.letters.remove()
        self.letters.lock.release()

    def _work(self) -> None:
        while not self.over:
            self.written.clear()
            try:
                while self.letters.deliver_next():
                    if self.behind:
                        log.warning("%s answers again", self.letters.address.uri)
                    self.behind = False
                if self.closing.is_set():
                    return
                self.written.wait()
            except Exception as error:  # whatever a network can do; the letter stays where it is
                if not self.behind:
                    reason = str(error).strip().splitlines()[0][:200]
                    log.warning("%s does not take what the run logs (%s): it is kept", self.letters.address.uri, reason)
                self.behind = True
                time.sleep(RETRY_SECONDS)


def open_sink(
    client: mlflow.MlflowClient, uri: str, experiment: str, fingerprint: str, run_id: str, folder: Path
) -> Sink:
    """Return where the letters of a run go that the store at `uri` has: to a server by way of `folder`."""
    if is_server(uri):
        return Outbox(new_queue(folder, uri, experiment, fingerprint, run_id, None))
    return DirectSink(client, run_id)


def send_queued(folder: Path) -> tuple[int, bool]:
    """Deliver the letters that processes left in a run's `folder`, now.

    Return how many there were, and whether a process that is under way has some of its own there. Raises StoreError
    where the server does not take them; those that it took are not sent again.
    """
    count, in_use = 0, False
    for letters in MessageQueue.found(folder):
        try:
            with letters.lock.acquire(timeout=0):
                count += len(letters.waiting)
                _deliver_all(letters)
                letters.remove()
        except Timeout:
            in_use = True
    return count, in_use


def _deliver_all(letters: MessageQueue) -> None:
    try:
        while letters.deliver_next():
            pass
    except (MlflowException, OSError) as error:
        reason = str(error).strip().splitlines()[0][:200]
        place = letters.address.uri
        raise StoreError(f"{place} does not take what is kept in {letters.folder} ({reason})") from error


def folders_with_messages(folder: Path) -> list[Path]:
    """The folders of runs and sweeps at and below `folder` whose messages are kept."""
    return sorted({file.parents[2] for file in folder.glob(f"**/{NAME}/*/{ADDRESS}")})


def new_queue(
    folder: Path, uri: str, experiment: str, fingerprint: str, run_id: str | None, new: dict[str, Any] | None
) -> MessageQueue:
    """Begin the letters of a run in its `folder`: `run_id`, or one to be made with what `new` says."""
    address = Address(uri, experiment, fingerprint, run_id, uuid.uuid4().hex, new)
    place = folder / NAME / address.id[:8]
    place.mkdir(parents=True)
    _write_whole(place / ADDRESS, asdict(address))
    return MessageQueue(place, address)


def find_queue(folder: Path, fingerprint: str, run_id: str) -> MessageQueue | None:
    """The letters in `folder` of the run `run_id`, as it is called while its server is away; None without any."""
    found = [letters for letters in MessageQueue.found(folder) if letters.address.fingerprint == fingerprint]
    return next((one for one in found if run_id in (one.address.run_id, one.address.id)), None)


def finished_objective(folder: Path, fingerprint: str) -> float | list[float] | None:
    """The objective of a finished run whose letters wait in `folder`; None where there is none."""
    for letters in MessageQueue.found(folder):
        end = letters.content_of("end")
        if letters.address.fingerprint == fingerprint and end and end["status"] == "FINISHED":
            return end["objective"]
    return None


def _made(client: mlflow.MlflowClient, address: Address) -> str:
    """The run of `address`: the one that an earlier try made, or a new one; a sweep's is made once."""
    assert address.new is not None
    experiment_id = open_store(address.uri, address.experiment)
    tags = dict(address.new["tags"])
    sweep = f"tags.`beans.sweep` = '{tags.get('beans.sweep')}' and tags.`beans.role` = 'sweep'"
    query = sweep if "beans.role" in tags else f"tags.`{TAG}` = '{address.id}'"
    if found := client.search_runs([experiment_id], query):
        return str(found[0].info.run_id)
    if PARENT not in tags and "beans.sweep" in tags and "beans.role" not in tags:
        shared = {"beans.sweep": tags["beans.sweep"], "beans.role": "sweep"}
        parents = client.search_runs([experiment_id], sweep) or [client.create_run(experiment_id, tags=shared)]
        tags[PARENT] = parents[0].info.run_id
    made = client.create_run(experiment_id, address.new["started"], tags | {TAG: address.id}, address.new["name"])
    return str(made.info.run_id)


def _is_final(error: MlflowException) -> bool:
    """Whether the store understood a letter and will never take it."""
    status = error.get_http_status_code()
    return 400 <= status < 500 and status not in PASSING


def _say_left(count: int, letters: MessageQueue) -> None:
    rule = f"Once it answers, send them with: python -m beans_exp.sync {letters.folder.parents[1]}"
    log.warning("%d letters of the run wait for %s in %s. %s", count, letters.address.uri, letters.folder, rule)


def _written(folder: Path, name: str, write: Write | None) -> Path | None:
    if write is None:
        return None
    write(folder / name)
    return folder / name


def write_text(file: Path, text: str) -> None:
    """What goes with a letter: a file of `text`."""
    file.write_text(text)


def _write_whole(file: Path, content: dict[str, Any]) -> None:
    unfinished = file.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(content))
    unfinished.replace(file)
