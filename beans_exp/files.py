"""Paths as users write them."""

import os
from pathlib import Path


def user_path(path: str | Path) -> Path:
    """Return `path` absolute, with `~` as the user's home; the name of an unknown user stays as it is."""
    return Path(os.path.expanduser(path)).resolve()  # noqa: PTH111  Path.expanduser raises for an unknown user
