"""The files of a message queue: read if they are as they were written, else set aside with a warning."""

import logging
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from beans_exp.files import DamagedError, read_json, require_measured
from beans_exp.tracking.messages import KINDS, MODEL_ID

log = logging.getLogger(__name__)

ADDRESS, MESSAGE, SENT, REJECTED = "address.json", "message.json", "sent.json", "refused.json"
ASIDE = ".damaged"
"""The suffix of an address or a message that cannot be read."""
LOST = "the run that it belongs to is not complete"
OLD_MESSAGE = "letter.json"
"""The name of `message.json` in folders that earlier versions wrote."""


@dataclass(frozen=True)
class Address:
    """The run that a queue's messages are about; `run_id` is None until it exists in the store, created from `new`."""

    uri: str
    experiment: str
    fingerprint: str
    run_id: str | None
    id: str
    new: dict[str, Any] | None = None
    """`name`, `tags` and `started` of a run that does not exist in the store yet."""


def pending_file(slot: Path) -> Path | None:
    """Return the file of a message that was not delivered yet; None if it was, or if its writer was killed."""
    return next((slot / name for name in (MESSAGE, OLD_MESSAGE) if (slot / name).is_file()), None)


def pending_message(slot: Path) -> dict[str, Any] | None:
    """Return the message in `slot` if it was not delivered yet; one that cannot be read is set aside."""
    file = pending_file(slot)
    if file is None:
        return None
    try:
        message = read_json(file)
        if not {"kind", "content", "name"} <= message.keys() or message["kind"] not in KINDS:
            raise DamagedError("it is not a message")
    except DamagedError as error:
        _set_aside(file, error, LOST)
        return None
    except FileNotFoundError:  # another thread has just delivered it
        return None
    return message


def has_whole_body(slot: Path, message: dict[str, Any]) -> bool:
    """Return whether the body of a pending message is as it was written; else the message is set aside."""
    if (slot / MODEL_ID).exists():  # its delivery, which changes the model, has begun
        return True
    try:
        require_measured(slot, message.get("files", {}))
    except DamagedError as error:
        file = pending_file(slot)
        assert file is not None
        _set_aside(file, error, LOST)
        return False
    return True


def delivered_message(slot: Path) -> dict[str, Any] | None:
    """Return the message in `slot` if the store has accepted or rejected it, and it can be read."""
    for file in (slot / SENT, slot / REJECTED):
        with suppress(FileNotFoundError, DamagedError):
            return read_json(file)
    return None


def read_address(file: Path) -> Address | None:
    """Return the address in `file`; one that cannot be read is set aside, with a warning."""
    try:
        return Address(**read_json(file))
    except (DamagedError, TypeError) as error:
        _set_aside(file, error, "its messages belong to an unknown run")
        return None
    except FileNotFoundError:  # another process has just delivered its messages
        return None


def _set_aside(file: Path, error: Exception, consequence: str) -> None:
    try:
        file.rename(file.with_name(f"{file.name}{ASIDE}"))
    except FileNotFoundError:  # another thread was faster
        return
    log.warning("%s is damaged (%s): set aside; %s. Run the same command again", file, error, consequence)
