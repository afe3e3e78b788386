"""Progress of jobs that run side by side: a live table in a terminal, elsewhere a line per epoch."""

import sys
from dataclasses import dataclass
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.live import Live
from rich.table import Table

from beans_exp.run_folder import RunProgress, read_progress
from beans_exp.terminal import duration, open_console

METRICS = ("val/accuracy", "train/accuracy")


@dataclass
class _Line:
    label: str
    progress: RunProgress | None = None


class LiveTable:
    """Shows each running job; prints only notes where jobs run one after another and print their own progress."""

    def __init__(self, shown: bool) -> None:
        self.console = open_console()
        self.shown = shown
        self.lines: dict[int, _Line] = {}
        live = shown and sys.stdout.isatty()
        self.live = Live(console=self.console, auto_refresh=False, transient=True) if live else None

    def start(self) -> None:
        """Begin to draw."""
        if self.live:
            self.live.start()

    def stop(self) -> None:
        """Stop drawing, and leave the terminal as it was."""
        if self.live:
            self.live.stop()

    def add(self, number: int, label: str, log: Path | None) -> None:
        """Add job `number`, which has started; `label` is its overrides, `log` the file for its output."""
        self.lines[number] = _Line(label)
        if self.shown and not self.live:
            self.note(number, f"started: {label} (output in {log})")

    def remove(self, number: int, state: str) -> None:
        """Remove job `number`, which has ended as `state`."""
        if self.shown:
            self.note(number, state)
        self.lines.pop(number)

    def note(self, number: int, text: str) -> None:
        """Print `text` about job `number`."""
        self.console.print(f"job {number + 1}: {text}", soft_wrap=True)

    def refresh(self, folders: dict[int, Path]) -> None:
        """Read the progress of the running jobs from their folders, given by number, and show it."""
        for number, folder in folders.items() if self.shown else ():
            progress = read_progress(folder)
            line = self.lines[number]
            if progress and progress != line.progress:
                line.progress = progress
                if not self.live:
                    self.note(number, _progress_text(progress))
        if self.live:
            self.live.update(self._table(), refresh=True)

    def _table(self) -> Table:
        table = Table("job", "", "stage", "epoch", *METRICS, "time left", box=SIMPLE_HEAD)
        for number, line in self.lines.items():
            table.add_row(str(number + 1), *_cells(line))
        return table


def _cells(line: _Line) -> list[str]:
    running = line.progress
    if running is None:
        return [f"{line.label} (starting)"]
    metrics = [f"{running.metrics.get(name, float('nan')):.3f}" for name in METRICS]
    epoch = f"{running.epoch}/{running.epochs}"
    return [line.label, str(running.stage), epoch, *metrics, duration(running.seconds_left)]


def _progress_text(running: RunProgress) -> str:
    metrics = ", ".join(f"{name} {running.metrics[name]:.3f}" for name in METRICS if name in running.metrics)
    left = duration(running.seconds_left)
    return f"stage {running.stage}, epoch {running.epoch}/{running.epochs}, {metrics}, {left} left"
