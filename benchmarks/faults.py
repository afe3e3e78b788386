"""Faults of disks, databases, servers and output while sweeps run: is a run lost or doubled, or training repeated?

Each scenario starts a real sweep of small jobs on synthetic leaves, injects one fault, and runs the same command again
once the fault is over, as a user would. Its row of the table says how many runs were asked for and have finished, how
many are lost (without a complete finished run), how many are doubled (a second run of a job, or a parent run too
many), how many seconds of training were repeated, and what went wrong otherwise (a traceback, a run left RUNNING).

    python benchmarks/faults.py                          # every scenario: some twenty minutes on two cores
    python benchmarks/faults.py locked 'full*'           # those whose names match
    python benchmarks/faults.py --before COMMIT          # the same on the code of an earlier commit, in a second table
    python benchmarks/faults.py --list

Full disks are small file systems in memory (tmpfs), which only root can mount: without root they are left out, and the
table says so. Exits with status 1 if a scenario of the current code fails. Linux only.
"""

import fnmatch
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import measure, stores

ROOT = Path(__file__).resolve().parents[1]
EPOCHS = 8
DATA = [
    "data=synthetic",
    "data.image_size=48",
    "data.train_images=48",
    "data.validation_images=12",
    "data.test_images=6",
]
JOBS = [*DATA, f"trainer.epochs={EPOCHS}", "trainer.batch_size=8", "kernel.filters=[2,2,4]"]
GRID = ["-m", *JOBS, "seed=0,1"]
ASKED = 2
TRAINING_BEGINS = "Epoch 2/"
"""A line of the log after which a fault is injected while jobs train."""
WAIT_SECONDS = 600
NEEDS_ROOT = "needs root"


@dataclass
class Case:
    """One scenario on one version of the product: its folder, its commands, and what they leave."""

    folder: Path
    product: Path
    """The folder of the code that runs."""
    words: list[str] = field(default_factory=lambda: list(GRID))
    asked: int = ASKED
    statuses: list[int] = field(default_factory=list)
    """The exit statuses of the commands."""
    uri: str | None = None
    """Of a server; otherwise the store is in the folder."""
    variables: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def environment(self) -> dict[str, str]:
        """The variables of the product."""
        cache = str(self.folder.parent / "cache")
        return {"PYTHONPATH": str(self.product), "XDG_CACHE_HOME": cache} | self.variables

    def start(self) -> "subprocess.Popen[bytes]":
        """Start the command; its output is appended to the log."""
        return measure.start_product(self.words, self.folder, self.log, own_group=False, **self.environment)

    def finish(self, process: "subprocess.Popen[bytes]") -> int:
        """Wait for the end of the command, and keep its exit status."""
        try:
            status = process.wait(WAIT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait()
            self.problems.append(f"no end within {WAIT_SECONDS} s")
        self.statuses.append(status)
        return status

    def run(self) -> int:
        """Run the command to its end and return its exit status."""
        return self.finish(self.start())

    def run_until_finished(self) -> None:
        """Run the same command again, now that the fault is over, as often as a user might: three times."""
        for _ in range(3):
            if self.run() == 0:
                return
        self.problems.append(f"the same command ends with {self.statuses[-1]}")

    def wait_for(self, text: str, count: int = 1) -> None:
        """Return once `text` appears in the log for the `count`-th time, or the time is over."""
        deadline = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < deadline:
            if self.log.exists() and self.log.read_text(errors="replace").count(text) >= count:
                return
            time.sleep(0.1)
        self.problems.append(f"{text!r} never appeared")

    def require_unsent_status(self, status: int) -> None:
        """Note a problem if a command that could not send everything ends with status 0."""
        if status == 0:
            self.problems.append("exit status 0 although updates are unsent")


@dataclass(frozen=True)
class Result:
    """What a scenario left."""

    asked: int
    finished: int
    lost: int
    doubled: int
    repeated: float
    """Seconds."""
    problems: list[str]

    @property
    def is_good(self) -> bool:
        return not (self.lost or self.doubled or self.problems)

    def cells(self) -> list[str]:
        numbers = [str(number) for number in (self.asked, self.finished, self.lost, self.doubled)]
        return [*numbers, f"{self.repeated:.1f}", "; ".join(self.problems) or "-"]


Scenario = Callable[[Case], None]
SCENARIOS: dict[str, Scenario] = {}


def scenario(play: Scenario) -> Scenario:
    """Add the function `play` to the scenarios, by its name."""
    SCENARIOS[play.__name__.replace("_", " ")] = play
    return play


# Section 1: after training nothing may cost the training.


@scenario
def locked_database_35_s(case: Case) -> None:
    """Another program holds a lock on mlflow.db for 35 seconds while jobs train."""
    _lock_while_training(case, 35)


@scenario
def locked_database_90_s(case: Case) -> None:
    """The same for 90 seconds: longer than the patience of the product."""
    _lock_while_training(case, 90)


@scenario
def full_output_disk(case: Case) -> None:
    """The disk of outputs/ is full while jobs train; mlruns/ is on another one."""
    with small_disk(case.folder / "outputs") as disk:
        _fill_while_training(case, disk)


@scenario
def full_temporary_disk(case: Case) -> None:
    """The disk of TMPDIR is full while models are saved."""
    with small_disk(case.folder / "tmp") as disk:
        case.variables = {"TMPDIR": str(disk)}
        _fill_while_training(case, disk)


@scenario
def full_store_disk(case: Case) -> None:
    """The disk of mlruns/ is full while jobs train."""
    with small_disk(case.folder / "mlruns", megabytes=16) as disk:
        _fill_while_training(case, disk)


@scenario
def closed_output(case: Case) -> None:
    """Whoever reads the output goes away after the first line, as `head -1` does."""
    with case.log.open("ab") as log:
        command = [sys.executable, "-m", "beans_exp", *case.words]
        environment = measure.environment() | case.environment
        process = subprocess.Popen(command, cwd=case.folder, env=environment, stdout=subprocess.PIPE, stderr=log)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    case.finish(process)


@scenario
def class_named_like_a_formula(case: Case) -> None:
    """A class has dollar signs in its name, which Matplotlib would parse as a formula."""
    write_images(case.folder / "images", ["x$\\frac$y", "plain"], 8)
    _use_images(case)
    case.run()


@scenario
def eighty_classes(case: Case) -> None:
    """A data set of 80 classes."""
    write_images(case.folder / "images", [f"class{number:02d}" for number in range(80)], 1)
    _use_images(case)
    case.run()


@scenario
def failed_trial(case: Case) -> None:
    """A trial of a search fails because its disk is full; the same command has to finish the search."""
    case.words = ["-m", "hydra/sweeper=optuna", *JOBS, "reg.dropout=interval(0,0.5)", "hydra.sweeper.n_trials=2"]
    case.words += ["confirm.top=0", "hydra.launcher.retries=0", "data.cache_dir=cache"]
    (case.folder / "cache").write_text("in the way of the folder")
    case.run()
    (case.folder / "cache").unlink()
    case.run_until_finished()


# Section 2: servers that half work.


@scenario
def error_page_of_a_proxy(case: Case) -> None:
    """A proxy in front of the server answers 502 while jobs train, until the sweep has ended."""
    with served_through_proxy(case) as proxy:
        process = case.start()
        case.wait_for(TRAINING_BEGINS)
        proxy.fault = lambda path: 502
        case.require_unsent_status(case.finish(process))
        proxy.fault = lambda path: None
        case.run_until_finished()


@scenario
def one_error_page(case: Case) -> None:
    """A proxy answers a single request in the middle of the sweep, whether the server is healthy, with 502."""
    with served_through_proxy(case) as proxy:
        process = case.start()
        case.wait_for(TRAINING_BEGINS)
        left = [502]
        proxy.fault = lambda path: left.pop() if left and path.endswith("health") else None
        case.finish(process)
        case.run_until_finished()


@scenario
def lost_replies(case: Case) -> None:
    """The replies to two of three requests to create a run are lost: MLflow's client asks twice by itself."""
    from tests.proxy import LOST

    with served_through_proxy(case) as proxy:
        asked: list[str] = []

        def lose(path: str) -> int | None:
            asked.extend([path] if path.endswith("runs/create") else [])
            return LOST if path.endswith("runs/create") and len(asked) % 3 else None

        proxy.fault = lose
        case.run()
        proxy.fault = lambda path: None
        case.run_until_finished()


@scenario
def answers_after_10_s(case: Case) -> None:
    """The server takes 10 seconds for each answer once jobs train, then a new sweep starts on it."""
    with served_through_proxy(case) as proxy:
        process = case.start()
        case.wait_for(TRAINING_BEGINS)
        proxy.delay = 10.0
        case.finish(process)
        proxy.delay = 0.0
        case.run_until_finished()


@scenario
def unreachable_at_the_end(case: Case) -> None:
    """The server is unreachable for the first job and back for the second: the sweep's end sends everything."""
    with served_through_proxy(case) as proxy:
        process = case.start()
        case.wait_for(TRAINING_BEGINS)
        proxy.fault = lambda path: 503
        case.wait_for(TRAINING_BEGINS, count=2)
        proxy.fault = lambda path: None
        if case.finish(process):
            case.problems.append("the sweep's end did not send what the first job left")


def _lock_while_training(case: Case, seconds: float) -> None:
    process = case.start()
    case.wait_for(TRAINING_BEGINS)
    with locked(case.folder / "mlruns" / "mlflow.db"):
        time.sleep(seconds)
    if case.finish(process):
        case.run_until_finished()


def _fill_while_training(case: Case, disk: Path) -> None:
    process = case.start()
    case.wait_for(TRAINING_BEGINS)
    filling = Filling(disk)
    case.finish(process)
    filling.stop()
    case.run_until_finished()


def _use_images(case: Case) -> None:
    folder = case.folder / "images"
    case.words = ["-m", "data=folder", f"data.data_dir={folder}", "data.image_size=48", *JOBS[5:], "seed=0,1"]


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold an exclusive lock on the SQLite `file`."""
    database = sqlite3.connect(file, timeout=60, isolation_level=None)
    database.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        database.execute("ROLLBACK")
        database.close()


@contextmanager
def small_disk(folder: Path, megabytes: int = 64) -> Iterator[Path]:
    """Mount a file system of `megabytes` in memory at `folder`; raises PermissionError without root."""
    if os.geteuid() != 0:
        raise PermissionError(NEEDS_ROOT)
    folder.mkdir(parents=True)
    options = ["-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    subprocess.run(["mount", *options], check=True)
    try:
        yield folder
    finally:
        kept = folder.with_name(f"{folder.name}.kept")
        shutil.copytree(folder, kept)
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
        folder.rmdir()
        kept.rename(folder)


class Filling:
    """Keeps a disk full until it is stopped: what others delete is filled again."""

    def __init__(self, disk: Path) -> None:
        self.file = disk / "ballast"
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._fill, daemon=True)
        self.thread.start()

    def stop(self) -> None:
        """Make room again."""
        self.stopped.set()
        self.thread.join()
        self.file.unlink(missing_ok=True)

    def _fill(self) -> None:
        with self.file.open("ab", buffering=0) as stream:
            while not self.stopped.wait(0.02):
                with suppress(OSError):
                    while not self.stopped.is_set():
                        stream.write(bytes(4096))


@contextmanager
def served_through_proxy(case: Case) -> Iterator[Any]:
    """Run MLflow's server behind a proxy whose faults can be set, and send the runs of `case` there."""
    from tests.proxy import faulty_proxy
    from tests.servers import mlflow_server

    place = case.folder / "server"
    place.mkdir()
    with mlflow_server(place) as server, faulty_proxy(server.address) as proxy:
        case.words += ["tracking=server", f"tracking.uri={proxy.address}"]
        yield proxy
    case.uri = f"sqlite:///{place}/mlruns/mlflow.db"


def write_images(folder: Path, classes: list[str], count: int) -> None:
    """Write `count` images of noise for each of `classes` and each split."""
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(0)
    for split in ("train", "validation", "test"):
        for name in classes:
            place = folder / split / name
            place.mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 256, (48, 48, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"{number}.png")


def play(name: str, product: Path, folder: Path) -> Result | None:
    """Play the scenario `name` on the code in `product`; None if it needs root."""
    case = Case(folder, product)
    folder.mkdir(parents=True)
    try:
        SCENARIOS[name](case)
    except PermissionError as error:
        if str(error) != NEEDS_ROOT:
            raise
        return None
    return judge(case)


def judge(case: Case) -> Result:
    """Compare what the store of `case` contains with what was asked for."""
    import mlflow

    problems = list(case.problems)
    if "Traceback" in case.log.read_text(errors="replace"):
        problems.append("a traceback")
    client = mlflow.MlflowClient(case.uri or f"sqlite:///{case.folder}/mlruns/mlflow.db")
    runs = stores.search_runs(client)
    finished = stores.finished_jobs(runs)
    marks = stores.trainings(runs)
    jobs = [run for run in runs if not stores.is_parent(run)]
    wrong = [problem for run in finished for problem in stores.wrong_steps(client, run, EPOCHS)]
    problems += stores.open_or_orphaned(runs) + wrong
    problems += [f"{run.info.run_id} keeps a cause" for run in finished if "beans.cause" in run.data.tags]
    problems += [f"{run.info.run_id} has no model" for run in finished if not run.outputs.model_outputs]
    again = len(jobs) - len({run.data.tags["beans.fingerprint"] for run in jobs})
    doubled = again + max(0, sum(map(stores.is_parent, runs)) - 1)
    return Result(case.asked, len(marks), case.asked - len(marks), doubled, repeated_seconds(case, finished), problems)


def repeated_seconds(case: Case, finished: list[Any]) -> float:
    """Return the seconds of the epochs that were trained more than once, counted in the log of all commands."""
    text = case.log.read_text(errors="replace")
    trained = sum(text.count(f"Epoch {number}/{EPOCHS}") for number in range(1, EPOCHS + 1))
    seconds = [run.data.metrics.get("time/epoch_seconds", 0.0) for run in finished]
    mean = sum(seconds) / len(seconds) if seconds else 0.0
    return max(0, trained - EPOCHS * case.asked) * mean


@contextmanager
def code_of(commit: str) -> Iterator[Path]:
    """Yield a folder with the code of `commit`."""
    with tempfile.TemporaryDirectory(prefix="code-") as folder:
        archive = subprocess.run(["git", "-C", str(ROOT), "archive", commit], check=True, capture_output=True).stdout
        subprocess.run(["tar", "-x", "-C", folder], check=True, input=archive)
        yield Path(folder)


def play_all(names: list[str], product: Path, title: str) -> bool:
    """Play the scenarios `names`, print their table, and return whether all of them are good."""
    rows, good = [], True
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        for name in names:
            measure.log(f"{title}: {name}")
            place = Path(folder) / name.replace(" ", "-")
            result = play(name, product, place)
            rows.append([name, *(result.cells() if result else ["-", "-", "-", "-", "-", NEEDS_ROOT])])
            good &= result is None or result.is_good
            if result is not None and not result.is_good:
                kept = Path(tempfile.mkdtemp(prefix="faults-kept-")) / place.name
                shutil.copytree(place, kept)
                measure.log(f"kept: {kept}")
    headings = ["fault", "asked", "finished", "lost", "doubled", "repeated s", "problems"]
    measure.print_table(title, headings, rows)
    return good


def main() -> None:
    """Play the scenarios of the command line."""
    parser = measure.make_parser(__doc__)
    parser.add_argument("names", nargs="*", default=["*"], help="patterns of scenarios; default: all")
    parser.add_argument("--before", metavar="COMMIT", help="play them on the code of this commit, too")
    parser.add_argument("--list", action="store_true", help="print the scenarios and stop")
    options = parser.parse_args()
    names = [name for name in SCENARIOS if any(fnmatch.fnmatch(name, f"{one}*") for one in options.names)]
    if options.list:
        print("\n".join(f"{name}: {SCENARIOS[name].__doc__}" for name in names))
        return
    if options.before:
        with code_of(options.before) as product:
            play_all(names, product, f"before ({options.before})")
    sys.exit(0 if play_all(names, ROOT, "now") else 1)


if __name__ == "__main__":
    main()
