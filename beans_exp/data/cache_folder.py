"""Where everything is kept that can be computed again."""

import os
from pathlib import Path

from beans_exp.files import user_path


def cache_root(cache_dir: str | None) -> Path:
    """Return the folder of everything that can be computed again: `cache_dir`, else $XDG_CACHE_HOME/beans_exp."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "beans_exp"
    return user_path(cache_dir or default)
