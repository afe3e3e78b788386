"""`python -m beans_exp.status`: the progress of a sweep, on any machine that can read its MLflow store and study."""

import argparse
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from beans_exp.errors import StoreError, first_line
from beans_exp.schema import TrackingConfig
from beans_exp.startup.console import add_experiment, add_storage, errors_as_messages
from beans_exp.startup.imports import no_collections, quiet_libraries
from beans_exp.terminal import duration, open_console

if TYPE_CHECKING:
    from rich.console import RenderableType

    from beans_exp.tracking.job_status import JobStatus
    from beans_exp.tracking.reader import Reader, Sweep


@dataclass(frozen=True)
class Trials:
    """The trials of a search: their numbers by state, and how many are planned."""

    study: str
    wanted: int
    numbers: dict[str, list[int]]


@dataclass(frozen=True)
class Status:
    """The progress of a sweep."""

    sweep: str
    name: str
    state: str
    counts: dict[str, int]
    """Number of jobs by state."""
    jobs: list["JobStatus"]
    trials: Trials | None = None
    problem: str | None = None
    """Why the trials are not shown, if they are not."""


def main(words: Sequence[str] | None = None) -> None:
    """Show the sweep on the command line, once or repeatedly."""
    wanted = _parser().parse_args(words)
    quiet_libraries()
    with errors_as_messages():
        _show(wanted)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m beans_exp.status", description="Show the progress of a sweep: its jobs and trials."
    )
    add_experiment(parser)
    parser.add_argument("--sweep", help="id of the sweep or its parent run, or its first 8 characters (the last sweep)")
    add_storage(parser)
    parser.add_argument("--watch", type=float, metavar="SECONDS", help="refresh at this interval until the sweep ends")
    parser.add_argument("--json", action="store_true", help="print JSON, one line per refresh")
    return parser


def _show(words: argparse.Namespace) -> None:
    with no_collections():
        from beans_exp.hpo.packed_study import named_storage
        from beans_exp.sweep.sweep_jobs import default_storage
        from beans_exp.tracking.reader import open_reader
        from beans_exp.tracking.store import store_uri

    tracking = TrackingConfig(uri=words.tracking_uri)
    storage = named_storage(words.storage or default_storage(tracking))
    reader = open_reader(store_uri(tracking), words.experiment)
    console = open_console()
    while True:
        status = read_status(reader, reader.sweep(words.sweep) if words.sweep else reader.last_sweep(), storage)
        if words.json:
            print(json.dumps(asdict(status)), flush=True)
        else:
            console.print(table(status))
        if words.watch is None or status.state != "running":
            return
        time.sleep(words.watch)


def read_status(reader: "Reader", sweep: "Sweep", storage: str) -> Status:
    """Return the current progress of `sweep`; the study of a search is looked for in `storage` only.

    Its tag also names an address, which anyone who may write to the store could have set: it is never opened.
    """
    with no_collections():
        from beans_exp.tracking.job_status import job_statuses

    jobs = job_statuses(reader, sweep)
    counts = Counter(job.state for job in jobs)
    if sweep.wanted and sweep.state == "running":
        counts["remaining"] = max(0, sweep.wanted - len(jobs))
    trials, problem = None, None
    if sweep.study:
        try:
            trials = _trials(storage, **sweep.study)
        except Exception as error:  # any storage driver's error: the jobs are still worth showing
            problem = f"no trials are shown: {first_line(error)}"
    return Status(sweep.id, sweep.name, sweep.state, {key: n for key, n in counts.items() if n}, jobs, trials, problem)


def _trials(storage: str, name: str, wanted: int) -> Trials:
    """The trials of the study `name` in `storage`; raises StoreError if it is not there."""
    from beans_exp.hpo.packed_study import find_study
    from beans_exp.hpo.trial_attrs import counted

    study = find_study(storage, name)
    if study is None:
        raise StoreError(f"{storage} has no study {name}. Name its storage with --storage")
    numbers: dict[str, list[int]] = {}
    trials = study.get_trials(deepcopy=False)
    valid = {trial.number for trial in counted(trials)}
    for trial in trials:
        retried = trial.number not in valid and trial.state.is_finished()
        state = "retried" if retried else trial.state.name.lower()
        numbers.setdefault(state, []).append(trial.number)
    return Trials(name, wanted, numbers)


def table(status: Status) -> "RenderableType":
    """Return the counts, the trials, and a table with a row per job."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Group
    from rich.table import Table

    lines = [f"{status.name}\nsweep {status.sweep}, {status.state}: {_listed(status.counts) or 'no jobs yet'}"]
    if status.trials:
        states = {state: len(numbers) for state, numbers in status.trials.numbers.items()}
        lines.append(f"study {status.trials.study}, {status.trials.wanted} trials planned: {_listed(states)}")
        if pruned := status.trials.numbers.get("pruned"):
            lines.append(f"pruned: {', '.join(map(str, pruned))}")
    if status.problem:
        lines.append(status.problem)
    jobs = Table("job", "state", "host", "stage", "epoch", "objective", "time left", "run", box=SIMPLE_HEAD)
    for job in status.jobs:
        epoch = f"{job.epoch}/{job.epochs}" if job.epoch else ""
        objective = ", ".join(f"{name} {value:.4f}" for name, value in job.objective.items())
        left = "" if job.seconds_left is None else duration(job.seconds_left)
        jobs.add_row(job.name, job.state, job.host, str(job.stage or ""), epoch, objective, left, job.run_id[:8])
    return Group("\n".join(lines), jobs) if status.jobs else "\n".join(lines)


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))


if __name__ == "__main__":
    main()
