"""Unpacking: the runs that a store lacks are added under new ids, with their sweeps and studies."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from beans_exp.errors import StoreError
from beans_exp.hpo.packed_study import require_mergeable
from beans_exp.locks import locked
from beans_exp.temporary import temporary_folder
from beans_exp.terminal import progress
from beans_exp.tracking import tags
from beans_exp.tracking.packed import PackedRun
from beans_exp.tracking.packed_file import JOBS_TABLE, RUN_ID
from beans_exp.tracking.parallel import client_of, in_processes
from beans_exp.tracking.reader import Reader
from beans_exp.tracking.store import open_store, sqlite_file
from beans_exp.tracking.store_errors import store_errors
from beans_exp.tracking.unpacking import KnownRun, create_run, known_runs, set_missing_tags
from beans_exp.unpack.archive import read_text
from beans_exp.unpack.content import Content, Packed
from beans_exp.unpack.runs import UnpackJob, prepare_run, write_run
from beans_exp.unpack.sweeps import SweepUnpacker

Ids = Mapping[str, str]
"""Ids of runs in this store."""
NEW, UPDATED, MODEL_ONLY, KNOWN = "new", "updated", "model only", "known"
"""How much of a run is written: all, the missing part, the model only, nothing."""


@dataclass
class Changes:
    """Counts of the changes that unpacking a file made to a store."""

    new: int = 0
    updated: int = 0
    """Runs that an earlier file, or an interrupted command, added without their end, their test or their model."""
    known: int = 0
    new_sweeps: int = 0
    merged_sweeps: int = 0
    new_trials: int = 0

    def count(self, need: str) -> None:
        """Count a run by how much of it is written."""
        self.new += need == NEW
        self.known += need == KNOWN
        self.updated += need in (UPDATED, MODEL_ONLY)


def unpack(content: Content, uri: str, storage: str) -> Changes:
    """Add the runs of `content` to the store at `uri`, and its studies to `storage`; both are created if missing.

    Runs that the store has are left alone. Raises StoreError for a store or a storage that cannot be used, before
    anything is written if a study there is of another search.
    """
    for packed in content.sweeps.values():
        if packed.study is not None:
            require_mergeable(storage, packed.study)
    experiment_id = open_store(uri, content.experiment)
    try:
        with _lock(uri), store_errors(uri), temporary_folder() as temporary:
            reader = Reader(client_of(uri), uri, content.experiment, experiment_id)
            sweeps = SweepUnpacker(reader, content.file, storage, temporary)
            return _Unpacking(content, reader, sweeps, temporary).run()
    except OSError as error:
        way_out = "Make room, then run the same command again"
        raise StoreError(f"{content.file} cannot be unpacked to the end ({error}). {way_out}") from error


def _lock(uri: str) -> AbstractContextManager[object]:
    """Let one command at a time unpack into a store that is a file."""
    file = sqlite_file(uri)
    return nullcontext() if file is None else locked(file.with_name("unpack.lock"), "is unpacking into the same store")


@dataclass(frozen=True)
class _Unpacking:
    """Unpacks `content` into the store of `reader`."""

    content: Content
    reader: Reader
    sweeps: SweepUnpacker
    folder: Path
    """A temporary one."""

    def run(self) -> Changes:
        changes, client = Changes(), self.reader.client
        found = known_runs(client, self.reader.experiment_id, {*self.content.runs, *self._named_in_tables()})
        parents = self._open_parents(changes)
        earlier = {packed: self._earlier(found.get(packed), one.run) for packed, one in self.content.runs.items()}
        ids = {packed: run.run_id for packed, run in found.items()}
        ids |= {packed: self._local_id(packed, run) for packed, run in earlier.items()}
        jobs = list(self._jobs(earlier, ids, parents, changes))
        prepared = progress(in_processes(prepare_run, jobs), "unpacking runs", len(jobs)) if jobs else ()
        for job, _ in zip(jobs, prepared, strict=True):
            write_run(job)
        for sweep, packed in self.content.sweeps.items():
            changes.new_trials += self.sweeps.finish(parents[sweep], packed, ids)
        return changes

    def _named_in_tables(self) -> set[str]:
        """The packed ids of runs that sweeps of the file name, whether the file holds them or not."""
        tables = [one.artifacts[JOBS_TABLE] for one in self.content.sweeps.values() if JOBS_TABLE in one.artifacts]
        return {run_id for table in tables for run_id in RUN_ID.findall(read_text(self.content.file, table))}

    def _open_parents(self, changes: Changes) -> dict[str, str]:
        """The id of the parent run of each sweep that the file has, or that a run of it belongs to."""
        parents = {}
        for sweep, packed in self.content.sweeps.items():
            parents[sweep], created = self.sweeps.open_parent(sweep, packed)
            changes.new_sweeps += created
            changes.merged_sweeps += not created
        others = {one.run.tags[tags.SWEEP] for one in self.content.runs.values() if tags.SWEEP in one.run.tags}
        for sweep in others - set(parents):
            if (run := self.sweeps.find_parent(sweep)) is not None:
                parents[sweep] = run
        return parents

    def _earlier(self, found: KnownRun | None, packed: PackedRun) -> KnownRun | None:
        """The run of the store that is `packed`; None for one that was interrupted here and finished elsewhere."""
        if found is None or found.is_copy or packed.status != "FINISHED":
            return found
        return found if found.status == "FINISHED" else None

    def _local_id(self, packed: str, earlier: KnownRun | None) -> str:
        if earlier is not None:
            return str(earlier.run_id)
        return create_run(self.reader.client, self.reader.experiment_id, self.content.runs[packed].run)

    def _jobs(
        self,
        earlier: Mapping[str, KnownRun | None],
        ids: Mapping[str, str],
        parents: Mapping[str, str],
        changes: Changes,
    ) -> Iterator[UnpackJob]:
        """Yield a job for each run that is new or lacks something; link known ones to a parent run that is new."""
        for packed, one in self.content.runs.items():
            run, before = replace(one.run, tags=_local_tags(one.run, ids, parents)), earlier[packed]
            need = _need(before, run, bool(one.model))
            changes.count(need)
            if need != KNOWN:
                yield self._job(ids[packed], run, one, model_only=need == MODEL_ONLY)
            elif before is not None and before.is_copy and tags.PARENT_RUN in run.tags:
                set_missing_tags(self.reader.client, before, {tags.PARENT_RUN: run.tags[tags.PARENT_RUN]})

    def _job(self, run_id: str, run: PackedRun, packed: Packed, *, model_only: bool) -> UnpackJob:
        file, uri, folder = self.content.file, self.reader.uri, self.folder / run_id
        return UnpackJob(file, uri, folder, run_id, run, packed.artifacts, packed.model, model_only=model_only)


def _need(before: KnownRun | None, run: PackedRun, has_model: bool) -> str:
    """How much of `run` is written; `before` is the same run in the store, left alone if it was trained there."""
    if before is None:
        return NEW
    if not before.is_copy:
        return KNOWN
    if before.knows_less(run):
        return UPDATED
    return MODEL_ONLY if has_model and before.lacks_model else KNOWN


def _local_tags(run: PackedRun, ids: Ids, parents: Ids) -> dict[str, str]:
    """The tags of `run` with the ids in this store of its parent run and of the run that trained its head."""
    found = dict(run.tags)
    if (parent := parents.get(found.get(tags.SWEEP, ""))) is not None:
        found[tags.PARENT_RUN] = parent
    if (head := found.pop(tags.HEAD_RUN, None)) in ids:
        found[tags.HEAD_RUN] = ids[str(head)]
    return found
