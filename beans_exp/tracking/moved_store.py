"""An SQLite store that was moved or copied: the absolute artifact addresses in it are made to follow it.

MLflow records absolute addresses. Those of the experiments tell where the store was.
"""

import logging
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

from beans_exp.locks import locked

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
LOCATIONS = "SELECT artifact_location FROM experiments"


def follow_store(file: Path, lock: Path) -> None:
    """Rewrite the artifact addresses of the store `file` if it is not where they say; log one line.

    Raises sqlite3.Error for a database that is locked or damaged.
    """
    if not _old_folders(file):
        return
    with locked(lock, "is moving the store"):
        for old in _old_folders(file):  # none if another process has just done it
            with closing(sqlite3.connect(file)) as database, database:
                count = sum(_rewrite(database, *column, old, file.parent / ARTIFACTS) for column in ADDRESSES)
            log.warning("the store was moved from %s to %s: %d addresses follow it", old.parent, file.parent, count)


def _old_folders(file: Path) -> list[Path]:
    """The recorded folders of artifacts that were beside the store when it was elsewhere."""
    found = {_folder(location) for location in _locations(file)} - {None, file.parent / ARTIFACTS}
    return [folder for folder in found if folder is not None and _was_beside(folder, file)]


def _was_beside(folder: Path, file: Path) -> bool:
    """Whether `folder` belonged to the store `file`, or to the one that it is a copy of.

    Artifacts that are elsewhere on purpose have no database beside them.
    """
    here = file.parent / ARTIFACTS
    if folder.exists():
        return here.is_dir() and (folder.parent / file.name).is_file() and not folder.samefile(here)
    return here.is_dir() or folder.parent.name == file.parent.name


def _locations(file: Path) -> list[str]:
    """The artifact addresses of all experiments."""
    if not file.is_file():
        return []
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as database:
        try:
            return [str(location) for (location,) in database.execute(LOCATIONS)]
        except sqlite3.OperationalError:  # no tables of MLflow: it will say so
            return []


def _folder(location: str) -> Path | None:
    """The folder of artifacts in which an experiment's is; None if its artifacts are arranged otherwise."""
    parts = urlsplit(location)
    if parts.scheme not in ("", "file"):
        return None
    folder = Path(unquote(parts.path) if parts.scheme else location).parent
    return folder if folder.name == ARTIFACTS else None


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
