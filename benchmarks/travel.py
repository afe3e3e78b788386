"""Cost of packing and unpacking a store of simulated runs, each with 26 epochs of metrics and 128 predictions.

The store is filled without training, as `benchmarks/report.py` fills one. Each command runs in a process of its own, as
a user starts it; both commands share the work among processes, whose CPU time is not known. The load average tells how
busy the machine was: beside one other process for each core, everything takes twice as long.

    python benchmarks/travel.py                     # 100 runs
    python benchmarks/travel.py --runs 20 --keep DIR

Nothing is asserted: figures are printed beside the project's goals.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks import measure
from benchmarks.report import study_points
from tests.report.simulated import Writer

CONFIG = "model: {name: lenet}\n" * 25
SUMMARY = "".join(f"conv2d_{layer:<20} (None, 75, 75, {layer:<6}) {layer * 4711:>12,}\n" for layer in range(40))
OVERRIDES = "- model=lenet\n- reg=l2\n- seed=0\n"
"""Artifacts of the size that the tracker writes."""


def make_store(folder: Path, runs: int) -> None:
    """Fill the store of `folder` with finished runs of two stages: 20 and 6 epochs."""
    from beans_exp.tracking.store import open_store

    uri = f"sqlite:///{folder.resolve() / 'mlruns' / 'mlflow.db'}"
    writer = Writer(uri, open_store(uri, "beans_exp"))
    points = [point for point in study_points() if point.config.finetune.blocks]
    for number in range(runs):
        point = points[number % len(points)]
        run_id = writer.write(replace(point, config=replace(point.config, seed=number // len(points))))
        for name, text in {"config.yaml": CONFIG, "model_summary.txt": SUMMARY, "overrides.yaml": OVERRIDES}.items():
            writer.client.log_text(run_id, text, name)
        _draw(writer, run_id)


def _draw(writer: Writer, run_id: str) -> None:
    """Log pictures, so that they are drawn again."""
    from matplotlib.figure import Figure

    for name in ("curves.png", "confusion_matrix.png"):
        writer.client.log_figure(run_id, Figure(figsize=(1, 1)), name)


def _run(name: str, goal: str, words: Sequence[str], folder: Path) -> list[str]:
    process = measure.run_process(["-m", *words], folder)
    return [name, f"{process.wall:.1f} s", f"{os.getloadavg()[0]:.1f}", f"{process.peak_mb:.0f} MB", goal]


def main() -> None:
    """Fill a store, pack it, unpack the file twice elsewhere, and print the costs."""
    parser = measure.make_parser(__doc__)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--keep", type=Path, help="folder that keeps the stores and the file")
    options = parser.parse_args()
    with measure.working_folder("travel", options.keep) as parent:
        packed = parent / "runs.zip"
        if not (parent / "from" / "mlruns").exists():
            make_store(parent / "from", options.runs)
        rows = [_run("pack", "20 s", ["beans_exp.pack", str(packed)], parent / "from")]
        for name, goal in (("unpack", "30 s"), ("unpack again", "adds nothing")):
            rows.append(_run(name, goal, ["beans_exp.unpack", str(packed)], parent / "to"))
        size = packed.stat().st_size / 1000 / options.runs
        title = f"{options.runs} runs, {size:.1f} KB each (goal: 25). {measure.machine()}"
        measure.print_table(title, ["command", "wall", "load", "peak", "goal"], rows)


if __name__ == "__main__":
    main()
