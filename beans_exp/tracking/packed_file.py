"""The file in which runs travel: the names of its members, its limits, and its JSON."""

import json
import re
from collections.abc import Mapping
from typing import Any

KIND, FORMAT = "beans_exp runs", 1
"""The kind and the format in the manifest; the format is raised when an older version could not read it."""
MANIFEST = "manifest.json"
RUN, STUDY = "run.json", "study.json"
RUNS, SWEEPS, ARTIFACTS, MODEL = "runs", "sweeps", "artifacts", "model"
"""Folders: `runs/ID/` and `sweeps/ID/`, each with `run.json`, `artifacts/`, and `model/` or `study.json`."""
JOBS_TABLE, TRIALS_TABLE, PREDICTIONS, OVERRIDES = "jobs.csv", "trials.csv", "predictions.csv", "overrides.yaml"

MAX_TEXT, MAX_ARTIFACT, MAX_MODEL, MAX_TOTAL = 64 << 20, 256 << 20, 8 << 30, 256 << 30
"""Bytes of a JSON file, of an artifact, of a file of a model, and of all members, decompressed."""
FREE_BYTES, MAX_RATIO = 1 << 20, 100
"""A member above so many bytes is not compressed by more than this: a file of zeros is no run."""
MAX_PATH_PART = 200

RUN_ID = re.compile(r"\b[0-9a-f]{32}\b")


def is_portable_path(path: str) -> bool:
    """Whether `path` is relative, stays in its folder, and can be a file's name on every system."""
    parts = path.split("/")
    return all(
        part not in ("", ".", "..")
        and not part.startswith(".artifact.uploading.")  # MLflow's own temporary files
        and len(part.encode(errors="replace")) <= MAX_PATH_PART
        and not re.search(r'[\\:*?"<>|\x00-\x1f\x7f]|[\ud800-\udfff]', part)
        for part in parts
    )


def is_sweep_id(value: str) -> bool:
    """Whether `value` can be the id of a sweep, which names a folder and is part of filters."""
    return re.fullmatch(r"[\w-][\w.-]{0,63}", value) is not None


def with_run_ids(name: str, text: str, ids: Mapping[str, str]) -> str:
    """Return the table `text`, the artifact `name` of a sweep, with the run ids that `ids` gives for those in it.

    A job whose run is unknown keeps its status alone.
    """
    return RUN_ID.sub(lambda found: ids.get(found[0], "" if name == JOBS_TABLE else found[0]), text)


def to_json(plain: Any) -> bytes:
    """Return `plain` as JSON in UTF-8, its keys sorted."""
    return json.dumps(plain, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def from_json(content: bytes) -> dict[str, Any]:
    """Return the object that `content` holds; raises ValueError, continuing "must ...", if it holds none."""
    try:
        plain = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"be JSON ({type(error).__name__})") from error
    if not isinstance(plain, dict):
        raise ValueError("be a JSON object")
    return plain
