"""Check within seconds whether a host is reachable: downloads and clients themselves retry for minutes."""

from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Thread

SECONDS = 5
"""Time limit after which a host counts as unreachable."""


def connection_error(connect: Callable[[], object], seconds: float | None = None) -> Exception | None:
    """Call `connect` and return the error that it raises, None if it succeeds, TimeoutError after `seconds`.

    They are `SECONDS` by default. A thread calls it, because name resolution has no timeout.
    """
    limit = SECONDS if seconds is None else seconds
    errors: SimpleQueue[Exception | None] = SimpleQueue()
    Thread(target=lambda: errors.put(_error_of(connect)), daemon=True).start()
    try:
        return errors.get(timeout=limit)
    except Empty:
        return TimeoutError(f"no answer within {limit:g} seconds")


def why_unreachable(host: str) -> object | None:
    """Return the reason why `host` does not answer over HTTPS within `SECONDS`, or None if it does.

    The proxy settings of the environment apply. Any HTTP status is an answer, and so is an untrusted certificate,
    because downloaders bring their own certificates.
    """
    import ssl
    from urllib.error import HTTPError
    from urllib.request import urlopen

    error = connection_error(lambda: urlopen(f"https://{host}", timeout=SECONDS).close())
    reason = getattr(error, "reason", error)
    return None if isinstance(error, HTTPError) or isinstance(reason, ssl.SSLCertVerificationError) else reason


def _error_of(connect: Callable[[], object]) -> Exception | None:
    try:
        connect()
    except Exception as error:  # anything that a network, a proxy or a malformed address can raise
        return error
    return None
