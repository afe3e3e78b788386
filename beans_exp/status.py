"""`python -m beans_exp.status`: the progress of a sweep, on any machine that can read its MLflow store and study."""

import argparse
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from beans_exp.schema import TrackingConfig
from beans_exp.startup.console import add_experiment, errors_as_messages
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
    """Why the study cannot be read, if it cannot."""


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
    parser.add_argument("--watch", type=float, metavar="SECONDS", help="refresh at this interval until the sweep ends")
    parser.add_argument("--json", action="store_true", help="print JSON, one line per refresh")
    return parser


def _show(words: argparse.Namespace) -> None:
    with no_collections():
        from beans_exp.tracking.reader import open_reader
        from beans_exp.tracking.store import store_uri

    reader = open_reader(store_uri(TrackingConfig(uri=words.tracking_uri)), words.experiment)
    console = open_console()
    while True:
        status = read_status(reader, reader.sweep(words.sweep) if words.sweep else reader.last_sweep())
        if words.json:
            print(json.dumps(asdict(status)), flush=True)
        else:
            console.print(table(status))
        if words.watch is None or status.state != "running":
            return
        time.sleep(words.watch)


def read_status(reader: "Reader", sweep: "Sweep") -> Status:
    """Return the current progress of `sweep`."""
    with no_collections():
        from beans_exp.tracking.job_status import job_statuses

    jobs = job_statuses(reader, sweep)
    counts = Counter(job.state for job in jobs)
    if sweep.wanted and sweep.state == "running":
        counts["remaining"] = max(0, sweep.wanted - len(jobs))
    trials, problem = None, None
    if sweep.study:
        try:
            trials = _trials(**sweep.study)
        except Exception as error:  # any storage driver's error: the jobs are still worth showing
            reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200]}"
            problem = f"cannot read the study from this machine ({reason})"
    return Status(sweep.id, sweep.name, sweep.state, {key: n for key, n in counts.items() if n}, jobs, trials, problem)


def _trials(storage: str, name: str, wanted: int) -> Trials:
    with no_collections():
        import optuna

        from beans_exp.hpo.storage import open_storage
        from beans_exp.hpo.trial_attrs import counted

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    numbers: dict[str, list[int]] = {}
    trials = optuna.load_study(study_name=name, storage=open_storage(storage)).get_trials(deepcopy=False)
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
