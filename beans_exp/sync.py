"""`python -m beans_exp.sync`: send what runs logged while their server was away."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from beans_exp.errors import BeansExpError
from beans_exp.startup.console import errors_as_messages
from beans_exp.startup.imports import no_collections, quiet_libraries


def main(words: Sequence[str] | None = None) -> None:
    """Send what lies in the folders that the command line names; exit status 1 if something could not be sent."""
    parser = argparse.ArgumentParser("python -m beans_exp.sync", description="Send what waits for its MLflow server.")
    parser.add_argument("folder", nargs="*", type=Path, default=[Path("outputs")], help="default: outputs")
    wanted = parser.parse_args(words)
    quiet_libraries()
    with errors_as_messages():
        if not _send_all(wanted.folder):
            sys.exit(1)


def _send_all(folders: Sequence[Path]) -> bool:
    """Send what is kept anywhere below `folders`, and return whether all of it was sent."""
    with no_collections():
        from beans_exp.tracking.outbox import folders_with_messages, send_queued

    for folder in folders:
        if not folder.is_dir():
            raise BeansExpError(f"{folder}: must be a folder that runs or sweeps were written to, such as outputs")
    found = [place for folder in folders for place in folders_with_messages(folder)]
    complete = True
    for place in found:
        try:
            count, in_use = send_queued(place)
            print(f"{place}: {count} letters sent{', others by the process that is under way' if in_use else ''}")
        except BeansExpError as error:
            complete = False
            print(f"{place}: {error}", file=sys.stderr)
    if not found:
        print("nothing waits to be sent")
    return complete


if __name__ == "__main__":
    main()
