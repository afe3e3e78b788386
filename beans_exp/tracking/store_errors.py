"""Errors of MLflow and its databases as one line that names the store and the way out."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from beans_exp.errors import StoreError, first_line
from beans_exp.tracking.reachability import SQLITE


@contextmanager
def store_errors(uri: str) -> Iterator[None]:
    """Turn the errors of MLflow about the store at `uri`, also about a wrong filter, into a StoreError of one line."""
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
        raise StoreError(explain(uri, error)) from error


def explain(uri: str, error: Exception) -> str:
    """Return the reason why the store at `uri` raised `error`, and the way out."""
    status = getattr(error, "get_http_status_code", lambda: None)()
    user = os.environ.get("MLFLOW_TRACKING_USERNAME", "nobody")
    if status == 401:
        rule = "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or write them to ~/.mlflow/credentials"
        return f"the server {uri} rejects the password of {user}. {rule}"
    if status == 403:
        return f"the server {uri} does not permit {user} to do that. Ask its administrator, or set tracking.experiment"
    reason = first_line(error, 1000)
    if "out-of-date database schema" in reason or "locate revision" in reason:
        reason = f"another version of MLflow wrote it ({reason.split('. ')[0]}). Install that version"
    if "database is locked" in reason:
        reason = "another program holds a lock on it. End that program"
    return f"the store {uri.removeprefix(SQLITE)} cannot be used: {reason}, or set tracking.uri"
