"""An SQLite store that was moved or copied: the absolute artifact addresses in it are made to follow it.

MLflow records absolute addresses. Its first experiment, created with the store, records where the store was.
"""

import logging
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

from filelock import FileLock

log = logging.getLogger(__name__)

ARTIFACTS = "artifacts"
"""The folder of artifacts beside the database."""
ADDRESSES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
    ("model_versions", "source"),
)
"""The columns that hold artifact addresses."""
FIRST = "SELECT artifact_location FROM experiments WHERE experiment_id = 0"


def follow_store(file: Path, lock: Path) -> None:
    """Rewrite the artifact addresses of the store `file` if it is not where they say; log one line.

    Raises sqlite3.Error for a database that is locked or damaged.
    """
    if _old_folder(file) is None:
        return
    with FileLock(lock):
        old = _old_folder(file)  # unless another process has just done it
        if old is None:
            return
        with closing(sqlite3.connect(file)) as database, database:
            count = sum(_rewrite(database, *column, old, file.parent / ARTIFACTS) for column in ADDRESSES)
        log.warning("the store was moved from %s to %s: %d addresses follow it", old.parent, file.parent, count)


def _old_folder(file: Path) -> Path | None:
    """The recorded folder of the artifacts of a store that was moved; None for one that was not."""
    recorded = _recorded_folder(file)
    here = file.parent / ARTIFACTS
    if recorded is None or recorded == here or recorded.name != ARTIFACTS:
        return None
    if recorded.exists() and (not here.is_dir() or recorded.samefile(here)):
        return None  # artifacts that are elsewhere on purpose, or another path of this folder
    is_ours = here.is_dir() or recorded.parent.name == file.parent.name
    return recorded if is_ours else None


def _recorded_folder(file: Path) -> Path | None:
    """The folder above that of the first experiment."""
    if not file.is_file():
        return None
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as database:
        try:
            row = database.execute(FIRST).fetchone()
        except sqlite3.OperationalError:  # no tables of MLflow: it will say so
            return None
    parts = urlsplit(str(row[0])) if row else None
    if parts is None or parts.scheme not in ("", "file"):
        return None
    return Path(unquote(parts.path) if parts.scheme else str(row[0])).parent


def _rewrite(database: sqlite3.Connection, table: str, column: str, old: Path, new: Path) -> int:
    """Replace the folder `old` at the beginning of a column's addresses by `new`; return how many there were."""
    count = 0
    for before, after in ((f"{old.as_uri()}/", f"{new.as_uri()}/"), (f"{old}/", f"{new}/")):
        try:
            query = f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?"  # noqa: S608
            count += database.execute(query, (after, len(before) + 1, len(before), before)).rowcount
        except sqlite3.OperationalError as error:
            if "no such" not in str(error):  # a table or column of a newer MLflow
                raise
    return count
