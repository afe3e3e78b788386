"""MLflow's rules for names and values, checked before anything is written: MLflow would reject a run halfway."""

import posixpath
import re
from collections.abc import Mapping
from typing import Any

from beans_exp.tracking.packed_file import RUN_ID

DATASET_FIELDS = {
    "name": 500,
    "digest": 36,
    "source_type": 36,
    "source": 65_535,
    "schema": 1 << 20,
    "profile": 1 << 24,
}
"""The fields of an MLflow data set, with the most characters that it may have."""


def is_id(value: Any) -> bool:
    """Whether `value` is the id of a run."""
    return isinstance(value, str) and RUN_ID.fullmatch(value) is not None


def is_text(value: Any, longest: int) -> bool:
    """Whether `value` is a text of at most `longest` characters that a database can hold."""
    return isinstance(value, str) and len(value) <= longest and not re.search(r"[\x00\ud800-\udfff]", value)


def is_time(value: Any) -> bool:
    """Whether `value` can be milliseconds since the epoch."""
    return type(value) is int and 0 <= value < 1 << 53


def is_step(value: Any) -> bool:
    """Whether `value` can be the step of a metric."""
    return type(value) is int and abs(value) < 1 << 53


def is_name(value: str) -> bool:
    """Whether MLflow takes `value` as the name of a param, a metric or a tag, of which some stores make a path."""
    inside = posixpath.normpath(value) == value and not value.startswith(("/", ".."))
    return inside and re.fullmatch(r"[\w./ :-]{1,250}", value) is not None


def are_texts(values: Mapping[str, Any], longest: int) -> bool:
    """Whether `values` can be params or tags, of at most `longest` characters."""
    return all(is_name(name) and is_text(value, longest) for name, value in values.items())


def is_dataset(fields: Mapping[str, Any]) -> bool:
    """Whether `fields` are those of a data set."""
    complete = {"name", "digest", "source_type", "source"} <= set(fields) <= set(DATASET_FIELDS)
    return complete and all(
        is_text(value, DATASET_FIELDS[name]) or (value is None and name in ("schema", "profile"))
        for name, value in fields.items()
    )
