"""A file of packed runs, built from an experiment of a store or from one of its sweeps."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import BinaryIO

from beans_exp.errors import BeansExpError
from beans_exp.files import write_whole
from beans_exp.pack.archive import ArchiveWriter
from beans_exp.pack.members import Members, PackJob, pack_run
from beans_exp.pack.models import add_model
from beans_exp.pack.portable import Scrubber, make_scrubber
from beans_exp.pack.studies import portable_study
from beans_exp.processes import host_of
from beans_exp.terminal import progress
from beans_exp.tracking import tags
from beans_exp.tracking.pack_selection import Selection, StoredRun, best_runs, select_runs
from beans_exp.tracking.packed_file import RUNS, STUDY, SWEEPS, to_json
from beans_exp.tracking.parallel import in_processes
from beans_exp.tracking.reader import Reader, Sweep
from beans_exp.tracking.store import MLRUNS, sqlite_file

USER = "mlflow.user"


@dataclass(frozen=True)
class Request:
    """The sweep to pack, or None for all; the models to include: `none`, `best` or `all`; the studies' storage."""

    sweep: Sweep | None
    models: str
    storage: str


@dataclass
class Contents:
    """The number of runs, sweeps, models and trials in a file, and notes about everything that was left out."""

    runs: int
    sweeps: int
    models: int
    trials: int = 0
    notes: list[str] = field(default_factory=list)


def pack(reader: Reader, request: Request, file: Path) -> Contents:
    """Write `file`, which is complete or absent, and return its contents.

    Raises BeansExpError if there is no run to pack, or a store or the file cannot be used.
    """
    selection = select_runs(reader, request.sweep)
    if not selection.runs:
        raise BeansExpError(f"{reader.experiment}: must be an experiment with a run that has ended. Name another")
    models = _with_model(reader.uri, selection, request.models)
    contents = Contents(len(selection.runs), len(selection.parents), len(models))
    if selection.running:
        contents.notes.append(f"{selection.running} run(s) that have not ended were left out")
    packing = _Packing(reader, request, selection, models, _scrubber(reader, selection), contents)
    try:
        write_whole(file, packing.write)
    except OSError as error:
        raise BeansExpError(f"{file} cannot be written ({error.strerror or error}). Name another file") from error
    return contents


@dataclass(frozen=True)
class _Packing:
    """Writes `selection` to a file, and counts and notes in `contents`."""

    reader: Reader
    request: Request
    selection: Selection
    models: set[str]
    """The packed ids of the runs whose models are packed."""
    scrubber: Scrubber
    contents: Contents

    def write(self, stream: BinaryIO) -> None:
        with ArchiveWriter(stream) as writer:
            for sweep, parent in sorted(self.selection.parents.items()):
                self._add_sweep(writer, sweep, parent)
            jobs = list(self._jobs())
            found = progress(in_processes(pack_run, jobs), "packing runs", len(jobs))
            for job, members in zip(jobs, found, strict=True):
                self._add(writer, members)
                if job.folder.partition("/")[2] in self.models:
                    self.contents.notes += add_model(writer, job)
            writer.add_manifest(self._facts())

    def _facts(self) -> dict[str, str]:
        versions = {"beans_exp": version("beans-exp"), "mlflow": version("mlflow")}
        return versions | {"experiment": self.reader.experiment, "models": self.request.models}

    def _jobs(self) -> Iterator[PackJob]:
        known = self.selection.ids
        for packed, run in sorted(self.selection.runs.items()):
            head = run.tags.get(tags.HEAD_RUN)
            ids = {head: known[head]} if head in known else {}
            leaves_model = run.has_model and packed not in self.models
            yield PackJob(self.reader.uri, run, f"{RUNS}/{packed}", ids, self.scrubber, leaves_model)

    def _add(self, writer: ArchiveWriter, members: Members) -> None:
        for name, content in sorted(members.content.items()):
            writer.add(name, content)
        reason = "it names this machine, is too large, or has no portable name"
        self.contents.notes += [f"left out {name}: {reason}" for name in members.left_out]

    def _add_sweep(self, writer: ArchiveWriter, sweep: str, parent: StoredRun) -> None:
        """Add a parent run and, for a search, its study."""
        ids = self.selection.ids
        self._add(writer, pack_run(PackJob(self.reader.uri, parent, f"{SWEEPS}/{sweep}", ids, self.scrubber)))
        if tags.STUDY not in parent.tags:
            return
        study, note = portable_study(parent.tags[tags.STUDY], self.request.storage, self.scrubber, ids)
        self.contents.notes += [note] if note else []
        if study is not None:
            writer.add(f"{SWEEPS}/{sweep}/{STUDY}", to_json(study.plain()))
            self.contents.trials += len(study.trials)


def _with_model(uri: str, selection: Selection, wanted: str) -> set[str]:
    """The packed ids of the runs whose models are packed."""
    if wanted == "best":
        return best_runs(uri, selection)
    return {packed for packed, run in selection.runs.items() if wanted == "all" and run.has_model}


def _scrubber(reader: Reader, selection: Selection) -> Scrubber:
    """A scrubber for this machine, and for those on which the runs were trained."""
    runs = [*selection.runs.values(), *selection.parents.values()]
    hosts = {host_of(run.tags.get(tags.PROCESS, "")) for run in runs}
    return make_scrubber(hosts, {run.tags.get(USER, "") for run in runs}, _project_folders(reader.uri))


def _project_folders(uri: str) -> list[Path]:
    """The folder of the store, and the one where its runs were started."""
    file = sqlite_file(uri)
    if file is None:
        return []
    return [file.parent, file.parent.parent] if file.parent.name == MLRUNS.name else [file.parent]
