"""Pack the runs of an experiment, or of one sweep, into a file for another machine.

    python -m beans_exp.pack runs.zip                        # every run of the experiment that has ended
    python -m beans_exp.pack leaves runs.zip --sweep ID      # one sweep of the experiment leaves
    python -m beans_exp.pack runs.zip --models best          # with the best model of each sweep

The file holds parameters, metrics by epoch, tags, artifacts, sweeps and the trials of searches. It names no machine, no
user and no path. On the other machine: python -m beans_exp.unpack runs.zip
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from beans_exp.files import user_path
from beans_exp.schema import TrackingConfig
from beans_exp.startup.console import add_experiment, add_storage, command_parser, errors_as_messages
from beans_exp.startup.imports import no_collections, quiet_libraries

if TYPE_CHECKING:
    from beans_exp.pack.build import Contents

SHOWN_NOTES = 5


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line `words`; return the exit status."""
    wanted = parser().parse_intermixed_args(words)
    quiet_libraries()
    with errors_as_messages():
        _pack(wanted)
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    made = command_parser("pack", __doc__)
    add_experiment(made)
    made.add_argument("file", type=Path, metavar="runs.zip", help="the file to write")
    made.add_argument("--sweep", help="one sweep: its parent run's id, or its own (eight characters are enough)")
    made.add_argument("--models", choices=("none", "best", "all"), default="none", help="default: %(default)s")
    add_storage(made)
    return made


def _pack(wanted: argparse.Namespace) -> None:
    with no_collections():
        from beans_exp.hpo.packed_study import named_storage
        from beans_exp.pack.build import Request, pack
        from beans_exp.sweep.sweep_jobs import default_storage
        from beans_exp.tracking.reader import open_reader
        from beans_exp.tracking.store import store_uri

    tracking = TrackingConfig(uri=wanted.tracking_uri)
    storage = named_storage(wanted.storage or default_storage(tracking))
    reader = open_reader(store_uri(tracking), wanted.experiment)
    sweep = reader.sweep(wanted.sweep) if wanted.sweep else None
    file = user_path(wanted.file)
    _print(pack(reader, Request(sweep, wanted.models, storage), file), file)


def _print(contents: "Contents", file: Path) -> None:
    counted = f"{contents.runs} runs, {contents.sweeps} sweeps, {contents.trials} trials, {contents.models} models"
    print(f"packed {counted} into {file}: {file.stat().st_size / 1e6:.2f} MB")
    for note in contents.notes[:SHOWN_NOTES]:
        print(f"note: {note}")
    if more := contents.notes[SHOWN_NOTES:]:
        print(f"note: and {len(more)} more")
    print(f"on the other machine: python -m beans_exp.unpack {shlex.quote(file.name)}")


if __name__ == "__main__":
    sys.exit(main())
