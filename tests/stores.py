"""Importing this makes new MLflow databases copies of one per test session: creating each takes seconds."""

import os
import shutil
import sqlite3
from pathlib import Path

from beans_exp.files import make_once
from beans_exp.tracking import store

TEMPLATE = "BEANS_EXP_TEST_STORE"
"""The variable that names the database to copy, for all processes of a test session."""
create = store.create_database


def copy_database(file: Path) -> None:
    """Make `file` as `create_database` does: only the artifacts of the experiment Default depend on its place."""
    template = Path(os.environ[TEMPLATE])
    make_once(template, create)
    shutil.copy(template, file)
    with sqlite3.connect(file) as database:
        place = (file.parent / "artifacts" / "0").as_uri()
        database.execute("UPDATE experiments SET artifact_location = ? WHERE experiment_id = 0", [place])
    database.close()


store.create_database = copy_database
