"""What the package brings along: its `conf/`, its models, and facts about the graphs of its pre-trained bases."""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parents[1]
CONF = next(folder for folder in (PACKAGE / "conf", PACKAGE.parent / "conf") if folder.is_dir())
"""The project's `conf/`: inside the package in a wheel, beside it in a checkout."""
MODELS = tuple(sorted(file.stem for file in (CONF / "model").glob("*.yaml")))
BASES = Path(__file__).with_name("bases.json")
"""Written by `python -m beans_exp.models.describe_bases`; a test compares it with the graphs."""


@lru_cache
def bases() -> dict[str, dict[str, Any]]:
    """Return, by name, the blocks of each shipped base, bottom up without the stem."""
    return json.loads(BASES.read_text())
