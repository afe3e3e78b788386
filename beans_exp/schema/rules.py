"""Rules on single values; each message names the full key, the value and the rule."""

import math
import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any
from urllib.parse import unquote_plus

from beans_exp.errors import ConfigError

ADDRESS = re.compile(r"[\w+.-]+://")
USER_AND_PASSWORD = re.compile(r"[\w+.-]+://[^:/@]*:[^@]+@")
SECRET = re.compile(r"(passw|passphrase|pwd|secret|token)\w*\s*=", re.IGNORECASE)
"""Secret keys of an address' query, also inside of an ODBC connection; `passfile` only names a file."""


def broken(key: str, value: Any, rule: str) -> ConfigError:
    """Return the error for `key`, whose `value` breaks `rule` (a phrase that continues "must be ...")."""
    return ConfigError(f"{key}={shown(value)}: must be {rule}")


def shown(value: Any) -> str:
    """Return `value` as it would be written on the command line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{','.join(shown(item) for item in value)}]"
    return str(value)


def one_of(key: str, value: Any, known: Sequence[str]) -> None:
    """Raise ConfigError, suggesting the closest known name, unless `value` is in `known`."""
    if value in known:
        return
    close = get_close_matches(str(value), known, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    raise broken(key, value, f"one of {', '.join(known)}{hint}")


def at_least(key: str, value: float | None, low: float) -> None:
    """Raise ConfigError unless `value` is null or a finite number of `low` or more."""
    if value is not None and not (math.isfinite(value) and value >= low):
        raise broken(key, value, f"{low:g} or more")


def positive(key: str, value: float | None) -> None:
    """Raise ConfigError unless `value` is null or a finite number above 0."""
    if value is not None and not (math.isfinite(value) and value > 0):
        raise broken(key, value, "above 0")


def fraction(key: str, value: float) -> None:
    """Raise ConfigError unless 0 <= `value` < 1."""
    if not 0 <= value < 1:
        raise broken(key, value, "at least 0 and below 1")


def between(key: str, value: float, low: float, high: float) -> None:
    """Raise ConfigError unless `low` <= `value` <= `high`."""
    if not low <= value <= high:
        raise broken(key, value, f"between {low:.10g} and {high:.10g}")


def distinct(key: str, values: Iterable[str]) -> None:
    """Raise ConfigError for duplicates in `values`."""
    items = list(values)
    if len(set(items)) < len(items):
        raise broken(key, items, "a list without duplicates")


def without_password(key: str, text: str) -> None:
    """Raise ConfigError, without showing it, for a password in an address in `text`: logs and files would have it.

    The user's part of an address ends at the first `@`, whatever characters the password has.
    """
    addresses = [text[found.start() :] for found in ADDRESS.finditer(text)]
    if any(map(_has_password, addresses)):
        rule = (
            "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD for a server; "
            "PGPASSWORD, or a line in ~/.pgpass, for Postgres; another database's own file or variable"
        )
        raise ConfigError(f"{key}: must be without a password, which would be logged. {rule}")


def _has_password(address: str) -> bool:
    from sqlalchemy import make_url  # few command lines have an address
    from sqlalchemy.exc import ArgumentError

    _, _, query = address.partition("?")
    if SECRET.search(unquote_plus(unquote_plus(query))):
        return True
    try:
        return bool(make_url(address).password)
    except (ArgumentError, ValueError):  # such as a port that is no number
        return USER_AND_PASSWORD.match(address) is not None
