"""A run as it travels between stores: everything that was logged, but nothing that names the machine.

Which tags travel is decided tag by tag.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from beans_exp.tracking import tags
from beans_exp.tracking.packed_file import from_json, is_sweep_id, to_json
from beans_exp.tracking.packed_rules import are_texts, is_dataset, is_id, is_name, is_step, is_text, is_time

NOTE = "mlflow.note.content"
"""MLflow's tag for the description that a user wrote."""
TRAVELLING = frozenset(
    {
        *(tags.FINGERPRINT, tags.STATUS, tags.CAUSE, tags.SWEEP, tags.ROLE, tags.JOBS, tags.PRECISION),
        *(tags.MICROBATCH, tags.WEIGHTS, tags.THREADS, tags.HEAD_RUN, tags.MODEL, tags.GIT_COMMIT, NOTE),
    }
)
"""Tags that are packed, besides those that begin with `tags.VERSION`."""
STAYING = frozenset(
    {
        *(tags.PROCESS, tags.OUTBOX, tags.STUDY, tags.PACKED, tags.PARENT_RUN),
        *(tags.MODEL_VERSIONS, tags.DATA_CONTEXT),
    }
)
"""Tags of this project that are not packed: they name a machine, or are written anew when the run is unpacked."""

Point = tuple[int, int, float]
"""A logged value: step, time in milliseconds, value."""


def travels(tag: str) -> bool:
    """Whether `tag` is packed with its run."""
    return tag in TRAVELLING or tag.startswith(tags.VERSION)


@dataclass(frozen=True)
class PackedRun:
    """A run that has ended, under the `id` that it had in the store where it was trained.

    Times are milliseconds since the epoch. `data` holds the fields of each data set; `drawn` names the pictures that
    are drawn again when the run is unpacked.
    """

    id: str
    name: str
    status: str
    """MLflow's own: FINISHED, FAILED or KILLED."""
    started: int
    ended: int
    params: dict[str, str]
    tags: dict[str, str]
    metrics: dict[str, list[Point]]
    data: list[dict[str, str | None]] = field(default_factory=list)
    drawn: list[str] = field(default_factory=list)

    def dumps(self) -> bytes:
        """Return the run as JSON: equal bytes for equal runs."""
        columns = {name: _columns(points) for name, points in self.metrics.items()}
        return to_json(asdict(self) | {"metrics": columns})

    @classmethod
    def loads(cls, content: bytes) -> "PackedRun":
        """Read what `dumps` wrote; raises ValueError, continuing "must ...", for a run that MLflow would reject."""
        plain = from_json(content)
        try:
            metrics = {name: _points(**columns) for name, columns in plain["metrics"].items()}
            run = cls(**plain | {"metrics": metrics})
            broken = next((rule for holds, rule in _rules(run) if not holds), None)
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
            raise ValueError(f"hold a packed run ({error})") from error
        if broken:
            raise ValueError(f"hold {broken}")
        return run


def _rules(run: PackedRun) -> Iterator[tuple[bool, str]]:
    """Whether each rule holds for `run`, and the rule."""
    yield is_id(run.id), "an id of 32 hex digits"
    yield is_text(run.name, 250), "a name of at most 250 characters"
    yield run.status in ("FINISHED", "FAILED", "KILLED"), "the status FINISHED, FAILED or KILLED"
    yield is_time(run.started) and is_time(run.ended), "times in milliseconds"
    yield are_texts(run.params, 6000), "params that MLflow accepts"
    yield are_texts(run.tags, 8000) and all(map(travels, run.tags)), "tags that are packed"
    yield is_sweep_id(run.tags.get(tags.SWEEP, "none")), f"a sweep's id in {tags.SWEEP}"
    yield run.tags.get(tags.ROLE, tags.SWEEP_ROLE) == tags.SWEEP_ROLE, f"no other {tags.ROLE} than that of a sweep"
    yield re.fullmatch("[0-9]{1,9}", run.tags.get(tags.JOBS, "0")) is not None, f"a number in {tags.JOBS}"
    points = [point for history in run.metrics.values() for point in history]
    known = all(map(is_name, run.metrics)) and all(is_step(step) and is_time(at) for step, at, _ in points)
    yield known, "metrics that MLflow accepts"
    yield all(map(is_dataset, run.data)), "data sets that MLflow accepts"
    yield all(isinstance(name, str) for name in run.drawn), "names of pictures"


def _columns(points: list[Point]) -> dict[str, list[Any]]:
    steps, times, values = [list(column) for column in zip(*points, strict=True)] if points else [[], [], []]
    return {"steps": steps, "times": times, "values": [_number(value) for value in values]}


def _points(steps: list[int], times: list[int], values: list[float | str]) -> list[Point]:
    return [(step, at, float(value)) for step, at, value in zip(steps, times, values, strict=True)]


def _number(value: float) -> float | str:
    """`value`; as text if it is not finite, which JSON cannot say."""
    return value if math.isfinite(value) else str(value)
