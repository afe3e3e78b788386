"""Jobs that run side by side, watched: a live table in a terminal, a line an epoch elsewhere."""

import sys
from dataclasses import dataclass, field
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.live import Live
from rich.table import Table

from beans_exp.run_folder import RunProgress, read_progress
from beans_exp.terminal import duration

SHOWN = ("val/accuracy", "train/accuracy")


@dataclass
class _Line:
    label: str
    log: Path | None
    state: str = "starting"
    heard: RunProgress | None = None
    said: set[int] = field(default_factory=set)


class LiveTable:
    """Shows every job that was started; silent where jobs run one after another and print by themselves."""

    def __init__(self, shown: bool) -> None:
        self.console = Console(highlight=False)
        self.shown = shown
        self.lines: dict[int, _Line] = {}
        live = shown and sys.stdout.isatty()
        self.live = Live(console=self.console, auto_refresh=False, transient=True) if live else None

    def start(self) -> None:
        """Begin to draw."""
        if self.live:
            self.live.start()

    def stop(self) -> None:
        """Leave the terminal as it was."""
        if self.live:
            self.live.stop()

    def started(self, number: int, label: str, log: Path | None) -> None:
        """A job has begun; `label` tells it from the others, `log` holds its output."""
        self.lines[number] = _Line(label, log)
        if self.shown and not self.live:
            self._print(number, f"started: {label} (output in {log})")

    def ended(self, number: int, state: str) -> None:
        """A job has ended; it leaves the live table."""
        if self.shown:
            self._print(number, state)
        self.lines.pop(number)

    def say(self, number: int, text: str) -> None:
        """Tell what happened to a job."""
        self._print(number, text)

    def show(self, folders: dict[int, Path]) -> None:
        """Look into the folders of the jobs under way, by number, and draw where they stand."""
        for number, folder in folders.items() if self.shown else ():
            heard = read_progress(folder)
            line = self.lines[number]
            if heard and heard != line.heard:
                line.heard, line.state = heard, "training"
                if not self.live:
                    self._print(number, _where(heard))
        if self.live:
            self.live.update(self._table(), refresh=True)

    def _print(self, number: int, text: str) -> None:
        self.console.print(f"job {number + 1}: {text}", soft_wrap=True, markup=False)

    def _table(self) -> Table:
        table = Table("job", "", "stage", "epoch", *SHOWN, "time left", box=SIMPLE_HEAD)
        for number, line in self.lines.items():
            row = [line.state, "", "", *("" for _ in SHOWN), ""]
            if line.heard:
                metrics = [f"{line.heard.metrics.get(name, float('nan')):.3f}" for name in SHOWN]
                left = duration(line.heard.seconds_left)
                row = [line.label, str(line.heard.stage), f"{line.heard.epoch}/{line.heard.epochs}", *metrics, left]
            else:
                row[0] = f"{line.label} ({line.state})"
            table.add_row(str(number + 1), *row)
        return table


def _where(running: RunProgress) -> str:
    metrics = ", ".join(f"{name} {running.metrics[name]:.3f}" for name in SHOWN if name in running.metrics)
    left = duration(running.seconds_left)
    return f"stage {running.stage}, epoch {running.epoch}/{running.epochs}, {metrics}, {left} left"
