"""`python -m beans_exp.sync`: send metrics that runs saved while their server was unreachable."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from beans_exp.errors import BeansExpError
from beans_exp.startup.console import errors_as_messages
from beans_exp.startup.imports import no_collections, quiet_libraries


def main(words: Sequence[str] | None = None) -> None:
    """Send the updates in the folders on the command line; exit status 1 if some cannot be sent."""
    description = "Send metrics, models and files that runs saved while their MLflow server was unreachable."
    parser = argparse.ArgumentParser("python -m beans_exp.sync", description=description)
    parser.add_argument("folder", nargs="*", type=Path, default=[Path("outputs")], help="default: outputs")
    folders = parser.parse_args(words).folder
    quiet_libraries()
    with errors_as_messages():
        if not _send_all(folders):
            sys.exit(1)


def _send_all(folders: Sequence[Path]) -> bool:
    """Send the updates at and below `folders` and return whether all were sent."""
    with no_collections():
        from beans_exp.tracking.message_queue import folders_with_messages

    for folder in folders:
        if not folder.is_dir():
            raise BeansExpError(f"{folder}: must be an output folder of runs or sweeps, such as outputs")
    found = [place for folder in folders for place in folders_with_messages(folder)]
    if not found:
        print("nothing to send")
    failed = [place for place in found if not _send(place)]
    return not failed


def _send(place: Path) -> bool:
    from beans_exp.tracking.outbox import send_queued

    try:
        count, in_use = send_queued(place)
    except BeansExpError as error:
        print(f"{place}: {error}", file=sys.stderr)
        return False
    rest = " (a running process is sending the rest)" if in_use else ""
    print(f"{place}: sent {count} update{'' if count == 1 else 's'}{rest}")
    return True


if __name__ == "__main__":
    main()
