"""The tables of jobs of one sweep on two machines, merged."""

import csv
import io
from collections.abc import Mapping

from beans_exp.files import csv_text
from beans_exp.tracking.parent_run import FINISHED, NOT_RUN, PRUNED

HEADER = ["fingerprint", "run_id", "status", "origin"]
ORDER = (FINISHED, PRUNED)
"""Of two outcomes of a job, the one that comes first; any other one comes after these."""


def merge_jobs(ours: str, theirs: str) -> str:
    """Return a table with each job of both, in our order, the better outcome where both have it."""
    rows = {row["fingerprint"]: row for row in _rows(ours)}
    for row in _rows(theirs):
        known = rows.get(row["fingerprint"])
        if known is None or _place(row) < _place(known):
            rows[row["fingerprint"]] = row
    return csv_text(HEADER, [[row.get(name, "") for name in HEADER] for row in rows.values()])


def sweep_status(jobs: str) -> tuple[str, str]:
    """Return `beans.status` and MLflow's status of a sweep with this table of jobs, by the rule of a sweep's end."""
    statuses = {row["status"] for row in _rows(jobs)}
    if statuses & {NOT_RUN, "killed"}:
        return "killed", "KILLED"
    return ("failed", "FAILED") if statuses - {FINISHED, PRUNED} else (FINISHED, "FINISHED")


def _rows(text: str) -> list[dict[str, str]]:
    return [row for row in csv.DictReader(io.StringIO(text)) if row.get("fingerprint") and row.get("status")]


def _place(row: Mapping[str, str]) -> tuple[int, bool]:
    status = row["status"]
    return ORDER.index(status) if status in ORDER else len(ORDER), not row["run_id"]
