"""A run as members of the file: JSON and artifacts, without names of the machine and pictures that can be redrawn."""

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from beans_exp.files import csv_text
from beans_exp.hpo.packed_trial import LOCAL_COLUMNS
from beans_exp.pack.portable import Scrubber
from beans_exp.tracking import tags
from beans_exp.tracking.pack_selection import StoredRun
from beans_exp.tracking.packed import NOTE, PackedRun
from beans_exp.tracking.packed_file import (
    ARTIFACTS,
    MAX_ARTIFACT,
    OVERRIDES,
    PREDICTIONS,
    RUN,
    TRIALS_TABLE,
    is_portable_path,
    is_sweep_id,
    with_run_ids,
)
from beans_exp.tracking.packing import local_files, read_run
from beans_exp.tracking.redrawn import can_be_drawn

REPORTS = "report/"
"""Artifacts of a parent run that `python -m beans_exp.report` writes: it writes them anew."""


@dataclass(frozen=True)
class PackJob:
    """A run to be packed in `folder` of the file; `ids` are the packed ids of the runs that it may name."""

    uri: str
    run: StoredRun
    folder: str
    ids: Mapping[str, str]
    scrubber: Scrubber
    leaves_model: bool = False
    """Whether the run has a model that is not packed."""


@dataclass(frozen=True)
class Members:
    """The content of a run's members by name, and the artifacts that were left out, with the reason."""

    content: dict[str, bytes]
    left_out: list[str]


def pack_run(job: PackJob) -> Members:
    """Read the run of `job` and its artifacts from the store; raises StoreError if that fails."""
    run = _portable(read_run(job.uri, job.run.run_id), job)
    members = Members({}, [])
    with local_files(job.run.artifacts) as files:
        run = replace(run, drawn=sorted(set(files) & set(can_be_drawn(run, _text(files.get(PREDICTIONS))))))
        for name, file in files.items():
            if name in run.drawn or name.startswith(REPORTS):
                continue
            if (content := _portable_file(name, file, job)) is None:
                members.left_out.append(f"{name} of run {run.id[:8]}")
            else:
                members.content[f"{job.folder}/{ARTIFACTS}/{name}"] = content
    members.content[f"{job.folder}/{RUN}"] = run.dumps()
    return members


def _portable(run: PackedRun, job: PackJob) -> PackedRun:
    """`run` with scrubbed texts and with the packed ids of the runs that it names."""
    scrub, found = job.scrubber.text, dict(run.tags)
    found |= {tag: scrub(found[tag]) for tag in (tags.CAUSE, NOTE, tags.WEIGHTS) if tag in found}
    if (head := found.pop(tags.HEAD_RUN, None)) in job.ids:
        found[tags.HEAD_RUN] = job.ids[str(head)]
    if not is_sweep_id(found.get(tags.SWEEP, "none")):
        found.pop(tags.SWEEP)
    if job.leaves_model:
        found[tags.MODEL] = tags.NOT_PACKED
    params = {key: job.scrubber.paths(value) for key, value in run.params.items()}
    return replace(run, name=scrub(run.name)[:250], params=params, tags=found, data=job.scrubber.tree(run.data))


def _portable_file(name: str, file: Path, job: PackJob) -> bytes | None:
    """The content of an artifact as it is packed; None for one that names this machine, or that no store can hold."""
    if not is_portable_path(name) or job.scrubber.text(name) != name or file.stat().st_size > MAX_ARTIFACT:
        return None
    content = file.read_bytes()
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return content if job.scrubber.is_clean(content) else None
    return _portable_text(name, text, job).encode()


def _portable_text(name: str, text: str, job: PackJob) -> str:
    if name == PREDICTIONS:
        return text
    if name == OVERRIDES:
        return _portable_overrides(text, job.scrubber)
    if name == TRIALS_TABLE:
        text = _without_columns(text)
    if tags.ROLE in job.run.tags and name.endswith(".csv"):
        text = with_run_ids(name, text, job.ids)
    return job.scrubber.text(text)


def _portable_overrides(text: str, scrubber: Scrubber) -> str:
    try:
        words = yaml.safe_load(text)
    except yaml.YAMLError:
        return scrubber.text(text)
    return yaml.safe_dump(scrubber.overrides(map(str, words))) if isinstance(words, list) else scrubber.text(text)


def _without_columns(text: str) -> str:
    """The table of a search's trials without the columns that name processes."""
    header, *rows = list(csv.reader(io.StringIO(text))) or [[]]
    kept = [place for place, name in enumerate(header) if name not in LOCAL_COLUMNS]
    return csv_text([header[place] for place in kept], _picked(rows, kept))


def _picked(rows: list[list[str]], kept: list[int]) -> Iterator[list[str]]:
    return ([row[place] for place in kept if place < len(row)] for row in rows)


def _text(file: Path | None) -> str | None:
    try:
        return None if file is None else file.read_text()
    except UnicodeDecodeError:
        return None
