"""Shared by the benchmarks: child processes and their costs, the images of both sides, medians, tables, the machine.

Imports nothing of the product at the top, so that it adds nothing to a bare script that uses it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from beans_exp.data import Data
    from beans_exp.schema import DataConfig

BATCH_SIZE = 64
"""Of all trainings that are compared."""
SPLITS = ("train", "validation", "test")
RESULT = Path("result.json")
"""The result of a role, in the folder of its process."""
IMAGES = Path("../data")
"""The arrays that the bare scripts read, relative to their folders."""
FEW = 0.1
"""Seconds (or MB) of the bare side below which a ratio says nothing."""


@dataclass(frozen=True)
class Process:
    """A child process that has ended: start and end in seconds since the epoch, CPU time, peak resident memory."""

    started: float
    ended: float
    cpu_seconds: float
    """On all cores; other programs on the machine affect it less than the wall time."""
    peak_mb: float
    """As the kernel counts it, in 10^6 bytes."""
    output: str = ""
    """Standard output, where it was captured."""

    @property
    def wall(self) -> float:
        return self.ended - self.started


def make_parser(doc: str | None) -> argparse.ArgumentParser:
    """Return a parser whose help is a program's docstring, line by line."""
    return argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)


def log(text: str) -> None:
    """Print a step of the benchmark, with the time, to standard error."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


@contextmanager
def working_folder(name: str, kept: Path | None = None) -> Iterator[Path]:
    """Yield the absolute path of `kept`, or of a temporary folder that is deleted at the end."""
    with tempfile.TemporaryDirectory(prefix=f"{name}-") as temporary:
        yield (kept or Path(temporary)).resolve()


def environment() -> dict[str, str]:
    """Return this process's variables with the product's defaults: both sides of a comparison run with the same."""
    from beans_exp.startup.imports import VARIABLES

    return VARIABLES | os.environ


def run_process(
    words: Sequence[str], folder: Path, *, capture: bool = False, stderr: int | None = None, status: int = 0
) -> Process:
    """Run Python with `words` in `folder` and measure it; end the benchmark unless it exits with `status`.

    Its output is captured or passed on to standard error; `stderr` is as in `subprocess.Popen`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stdout = subprocess.PIPE if capture else sys.stderr
    command = [sys.executable, *words]
    started = time.time()
    with subprocess.Popen(command, cwd=folder, env=environment(), stdout=stdout, stderr=stderr) as process:
        output = process.stdout.read().decode() if process.stdout else ""
        _, code, usage = os.wait4(process.pid, 0)
        ended = time.time()
        process.returncode = os.waitstatus_to_exitcode(code)
    if process.returncode != status:
        sys.exit(f"{output}{' '.join(words)} ended with {process.returncode}")
    return Process(started, ended, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e6, output)


def run_role(program: str, role: str, folder: Path, *words: str) -> tuple[Process, dict[str, Any]]:
    """Run the file `program` with `words` and `--role` in `folder`; return the process and the result of the role."""
    process = run_process([str(Path(program).resolve()), *words, f"--role={role}"], folder)
    return process, json.loads((folder / RESULT).read_text())


def write_result(result: dict[str, Any]) -> None:
    """Write the result of a role to the working folder, for `run_role`."""
    RESULT.write_text(json.dumps(result))


def start_product(
    words: Sequence[str], folder: Path, log_file: Path | None = None, *, own_group: bool = False, **variables: str
) -> "subprocess.Popen[bytes]":
    """Start `python -m beans_exp` with `words` in `folder`; output is appended to `log_file`, else on standard error.

    With `own_group` it leads a process group, which can be killed as a whole.
    """
    command = [sys.executable, "-m", "beans_exp", *words]
    options: dict[str, Any] = {"cwd": folder, "env": environment() | variables, "start_new_session": own_group}
    if log_file is None:
        return subprocess.Popen(command, stdout=sys.stderr, **options)
    with log_file.open("ab") as output:
        return subprocess.Popen(command, stdout=output, stderr=output, **options)


def data_config(name: str, **changes: Any) -> "DataConfig":
    """Return the product's option `data=name` with `changes`."""
    import yaml

    from beans_exp.schema import CONF, DataConfig

    return DataConfig(**yaml.safe_load((CONF / "data" / f"{name}.yaml").read_text()) | changes)


def save_arrays(data: "Data") -> None:
    """Save the resized images and the labels of the product's `data` in the working folder, for the bare scripts."""
    import numpy as np

    for name in SPLITS:
        split = getattr(data, name)
        np.save(f"{name}.images.npy", split.images)
        np.save(f"{name}.labels.npy", split.labels)


def load_arrays(split: str) -> "tuple[np.ndarray, np.ndarray]":
    """Return images, uint8 (images, size, size, 3), and labels of a split, as `save_arrays` saved them."""
    import numpy as np

    return np.load(IMAGES / f"{split}.images.npy"), np.load(IMAGES / f"{split}.labels.npy")


def spread(values: Sequence[float], form: str) -> str:
    """Return the median of `values` in the format `form`, with minimum and maximum if there are several values."""
    if not values:
        return "-"
    bounds = f" ({min(values):{form}}-{max(values):{form}})" if len(values) > 1 else ""
    return f"{median(values):{form}}{bounds}"


@dataclass(frozen=True)
class Row:
    """A quantity that was measured on both sides: a value for each pair of runs."""

    name: str
    product: Sequence[float]
    bare: Sequence[float]
    form: str
    goal: str = ""

    def cells(self) -> list[str]:
        """Return name, product, bare, ratio and goal; the ratio is the median over pairs."""
        pairs = zip(self.product, self.bare, strict=False)
        ratios = [mine / theirs for mine, theirs in pairs if theirs > FEW]
        sides = [spread(values, self.form) for values in (self.product, self.bare)]
        return [self.name, *sides, spread(ratios, ".3f"), self.goal]


def print_comparison(title: str, rows: Iterable[Row], goal: str = "goal") -> None:
    """Print `rows` as a table under `title`; `goal` is the heading of the goals."""
    print_table(title, ["", "product", "bare", "ratio", goal], [row.cells() for row in rows])


def print_table(title: str, headers: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table whose first column does not wrap."""
    from rich import box
    from rich.table import Column, Table

    from beans_exp.terminal import open_console

    table = Table(Column(headers[0], no_wrap=True), *headers[1:], title=title, box=box.SIMPLE)
    for row in rows:
        table.add_row(*row)
    open_console().print(table)


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0))


def machine() -> str:
    """Return CPU, bfloat16 flags and threads on one line."""
    from beans_exp.schema.precision import fast_flags

    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
    flags = ", ".join(fast_flags()) or "none"
    return f"CPU: {model}; bfloat16 flags: {flags}; threads: {cores()}"
