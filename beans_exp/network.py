"""Whether a host answers, told within seconds: downloads themselves retry for minutes."""

import ssl
from http.client import HTTPException
from queue import Empty, SimpleQueue
from threading import Thread
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

SECONDS = 5
"""How long a host may take to answer before it counts as out of reach."""


def why_unreachable(host: str) -> object | None:
    """Return why `host` gives no answer over HTTPS within `SECONDS`, or None where it does.

    The proxy that the environment names is used. Asked in a thread, as looking up a name knows no time limit.
    """
    answers: SimpleQueue[Exception | None] = SimpleQueue()
    Thread(target=lambda: answers.put(_error(host)), daemon=True).start()
    try:
        error = answers.get(timeout=SECONDS)
    except Empty:
        return f"no answer within {SECONDS} seconds"
    return getattr(error, "reason", error)


def _error(host: str) -> Exception | None:
    try:
        urlopen(f"https://{host}", timeout=SECONDS).close()
    except HTTPError:  # an answer, too
        return None
    except URLError as error:  # downloaders bring certificates of their own
        return None if isinstance(error.reason, ssl.SSLCertVerificationError) else error
    except (OSError, HTTPException) as error:
        return error
    return None
