"""Unpacking a sweep: its parent run is created, or merged with the one that the store has."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from beans_exp.hpo.packed_study import merge_study, trials_table
from beans_exp.tracking import tags
from beans_exp.tracking.packed_file import JOBS_TABLE, TRIALS_TABLE, with_run_ids
from beans_exp.tracking.packing import local_files
from beans_exp.tracking.reader import Reader
from beans_exp.tracking.unpacking import (
    KnownRun,
    create_run,
    end_again,
    find_parent,
    known_run,
    merge_metrics,
    set_missing_tags,
)
from beans_exp.unpack.archive import extract, read_text
from beans_exp.unpack.content import Packed
from beans_exp.unpack.runs import UnpackJob, prepare_run, write_run
from beans_exp.unpack.tables import merge_jobs, sweep_status

OF_THIS_END = (tags.STATUS, tags.CAUSE)
"""Tags of a sweep's end, which a merged sweep derives from its jobs."""


@dataclass(frozen=True)
class SweepUnpacker:
    """Writes parent runs and studies of `file` into the experiment of `reader`, and studies to `storage`."""

    reader: Reader
    file: Path
    storage: str
    folder: Path
    """A temporary one."""

    def find_parent(self, sweep: str) -> str | None:
        """Return the id of the parent run of `sweep` in the store, or None."""
        return find_parent(self.reader.client, self.reader.experiment_id, sweep)

    def open_parent(self, sweep: str, packed: Packed) -> tuple[str, bool]:
        """Return the id of the parent run of `sweep`, created now unless it exists, and whether it was created."""
        found = self.find_parent(sweep)
        if found is not None:
            return found, False
        return create_run(self.reader.client, self.reader.experiment_id, packed.run), True

    def finish(self, parent: str, packed: Packed, ids: Mapping[str, str]) -> int:
        """Write `packed` to the run `parent`, and return the number of new trials.

        `ids` are the runs' ids in this store by their packed ids. A sweep that is running is left alone: its table is
        written at its end.
        """
        trials = merge_study(self.storage, packed.study, ids) if packed.study else 0
        run = known_run(self.reader.client, parent)
        packed = replace(packed, run=replace(packed.run, tags=self._tags(packed)))
        if run.status != "RUNNING":
            self._merge(run, packed, ids)
            if trials and packed.study and TRIALS_TABLE in packed.artifacts:
                self.reader.client.log_text(parent, trials_table(self.storage, packed.study.name), TRIALS_TABLE)
        elif run.is_copy and tags.PROCESS not in run.tags:
            job = self._job(parent, packed, ids)
            prepare_run(job)
            write_run(job)
        return trials

    def _tags(self, packed: Packed) -> dict[str, str]:
        """The tags of the parent run, with the study in this store."""
        if packed.study is None:
            return packed.run.tags
        study = {"storage": self.storage, "name": packed.study.name, "wanted": packed.study.wanted}
        return packed.run.tags | {tags.STUDY: json.dumps(study)}

    def _job(self, parent: str, packed: Packed, ids: Mapping[str, str]) -> UnpackJob:
        texts = {
            name: with_run_ids(name, read_text(self.file, member), ids)
            for name, member in packed.artifacts.items()
            if name.endswith(".csv")
        }
        folder = self.folder / parent
        return UnpackJob(self.file, self.reader.uri, folder, parent, packed.run, packed.artifacts, {}, texts)

    def _merge(self, run: KnownRun, packed: Packed, ids: Mapping[str, str]) -> None:
        """Add to a parent run that has ended the jobs, tags, metrics and artifacts that it lacks."""
        wanted = {key: value for key, value in packed.run.tags.items() if key not in OF_THIS_END}
        set_missing_tags(self.reader.client, run, wanted)
        merge_metrics(self.reader.client, run, packed.run)
        job = self._job(run.run_id, packed, ids)
        self._merge_jobs(run, packed, job.texts.get(JOBS_TABLE, ""))
        self._add_artifacts(run, job)

    def _merge_jobs(self, run: KnownRun, packed: Packed, theirs: str) -> None:
        ours = self.reader.artifact(run.artifacts, JOBS_TABLE) or ""
        merged = merge_jobs(ours, theirs)
        if not theirs or merged == ours:
            return
        self.reader.client.log_text(run.run_id, merged, JOBS_TABLE)
        end_again(self.reader.client, run, *sweep_status(merged), packed.run.ended)

    def _add_artifacts(self, run: KnownRun, job: UnpackJob) -> None:
        with local_files(run.artifacts) as known:
            missing = set(job.artifacts) - set(known) - {JOBS_TABLE}
        if not missing:
            return
        for name in sorted(missing):
            extract(self.file, job.artifacts[name], job.folder / name)
            if name in job.texts:
                (job.folder / name).write_text(job.texts[name])
        self.reader.client.log_artifacts(run.run_id, str(job.folder))
