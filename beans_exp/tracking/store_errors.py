"""Errors of MLflow and its databases as one line that names the store and the way out."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from beans_exp.errors import ServerUnreachableError, StoreError, StoreUnavailableError, first_line
from beans_exp.tracking.reachability import SQLITE, driver_error, is_server

PASSING = (401, 403, 408, 429)
"""Statuses below 500 that may change although the request does not."""
LASTING = ("no such table", "no such column", "has no column")
"""Errors of SQLite that only another database would not raise."""


@contextmanager
def store_errors(uri: str) -> Iterator[None]:
    """Turn the errors of MLflow about the store at `uri`, also about a wrong filter, into a StoreError of one line.

    It is a StoreUnavailableError if the same request may succeed later.
    """
    import alembic.util
    import mlflow
    import sqlalchemy.exc

    try:
        yield
    except ImportError as error:
        raise StoreError(f"the store {uri} needs a driver that is not installed: pip install {error.name}") from error
    except (mlflow.MlflowException, sqlalchemy.exc.SQLAlchemyError, alembic.util.CommandError) as error:
        if getattr(error, "error_code", None) == "INVALID_PARAMETER_VALUE":
            raise StoreError(f"the store {uri} answers: {first_line(error, 300)}") from error
        kind = _unavailable(uri, error) if may_pass(uri, error) else StoreError
        raise kind(explain(uri, error)) from error


def may_pass(uri: str, error: BaseException) -> bool:
    """Whether `error` of the store at `uri` may be over later: a lock, a full disk, trouble of a server or a proxy.

    An answer that is not MLflow's comes from something between us and the server.
    """
    import mlflow
    import sqlalchemy.exc
    from mlflow.exceptions import RestException

    if isinstance(error, OSError | sqlalchemy.exc.OperationalError):
        return not any(text in str(error) for text in LASTING)
    if not isinstance(error, mlflow.MlflowException):
        return False
    status = error.get_http_status_code()
    if not is_server(uri):
        return status == 503 and not any(text in str(error) for text in LASTING)
    foreign = not isinstance(error, RestException) and str(error).startswith("API request to")
    return foreign or status >= 500 or status in PASSING


def passes(uri: str, error: StoreError) -> bool:
    """Whether `error`, raised for the store at `uri`, may be over later; only that of a store that worked before."""
    return isinstance(error, StoreUnavailableError) or (error.__cause__ is not None and may_pass(uri, error.__cause__))


def _unavailable(uri: str, error: Exception) -> type[StoreError]:
    """A rejected password is an error of its user at first, although it may be accepted later."""
    if getattr(error, "get_http_status_code", lambda: None)() in (401, 403):
        return StoreError
    return ServerUnreachableError if is_server(uri) else StoreUnavailableError


def explain(uri: str, error: Exception) -> str:
    """Return the reason why the store at `uri` raised `error`, and the way out."""
    status = getattr(error, "get_http_status_code", lambda: None)()
    user = os.environ.get("MLFLOW_TRACKING_USERNAME", "nobody")
    if status == 401:
        rule = "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or write them to ~/.mlflow/credentials"
        return f"the server {uri} rejects the password of {user}. {rule}"
    if status == 403:
        return f"the server {uri} does not permit {user} to do that. Ask its administrator, or set tracking.experiment"
    reason = first_line(driver_error(error) or error, 1000)
    if "out-of-date database schema" in reason or "locate revision" in reason:
        reason = f"another version of MLflow wrote it ({reason.split('. ')[0]}). Install that version"
    if "database is locked" in reason:
        reason = "another program holds a lock on it. End that program, wait longer with tracking.patience"
    if "disk is full" in reason or "No space left" in reason:
        reason = "its disk is full. Free space"
    return f"the store {uri.removeprefix(SQLITE)} cannot be used: {reason}, or set tracking.uri"
