"""Add packed runs to the store of this folder.

    python -m beans_exp.unpack runs.zip

The file comes from python -m beans_exp.pack. Each run is added once, under a new id, however often the file is given.
Sweeps that both machines ran are merged. Grids here reuse the runs, and reports include them. A damaged or foreign file
is refused as a whole.
"""

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from beans_exp.files import user_path
from beans_exp.schema import TrackingConfig
from beans_exp.startup.console import add_storage, add_tracking_uri, command_parser, errors_as_messages
from beans_exp.startup.imports import no_collections, quiet_libraries

if TYPE_CHECKING:
    from beans_exp.unpack.build import Changes


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line `words`; return the exit status."""
    wanted = parser().parse_args(words)
    quiet_libraries()
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # otherwise two lines per run
    with errors_as_messages():
        _unpack(wanted)
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    made = command_parser("unpack", __doc__)
    made.add_argument("file", type=Path, metavar="runs.zip", help="the file to read")
    add_tracking_uri(made)
    add_storage(made)
    return made


def _unpack(wanted: argparse.Namespace) -> None:
    with no_collections():
        from beans_exp.hpo.packed_study import named_storage
        from beans_exp.sweep.sweep_jobs import default_storage
        from beans_exp.tracking.store import store_uri
        from beans_exp.unpack.build import unpack
        from beans_exp.unpack.content import read_content

    tracking = TrackingConfig(uri=wanted.tracking_uri)
    storage = named_storage(wanted.storage or default_storage(tracking))
    content = read_content(user_path(wanted.file))
    changes = unpack(content, store_uri(tracking), storage)
    print(f"{wanted.file}: {_text(changes)}")
    where = ["--tracking-uri", wanted.tracking_uri] if wanted.tracking_uri else []
    print(f"compare them: {shlex.join(['python', '-m', 'beans_exp.report', content.experiment, *where])}")


def _text(changes: "Changes") -> str:
    """The changes in words: `2 new runs, 1 new sweep, 3 new trials`."""
    counts = {
        "new run": changes.new,
        "updated run": changes.updated,
        "known run": changes.known,
        "new sweep": changes.new_sweeps,
        "known sweep": changes.merged_sweeps,
        "new trial": changes.new_trials,
    }
    return ", ".join(f"{count} {name}{'' if count == 1 else 's'}" for name, count in counts.items() if count)


if __name__ == "__main__":
    sys.exit(main())
