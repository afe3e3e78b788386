"""What every command does on the command line: name the store, and turn errors into messages."""

import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager

from beans_exp.errors import BeansExpError
from beans_exp.schema import TrackingConfig


def name_store(parser: ArgumentParser) -> None:
    """Add what names the runs that a command reads: the experiment and its store."""
    parser.add_argument("experiment", nargs="?", default=TrackingConfig().experiment, help="default: %(default)s")
    parser.add_argument("--tracking-uri", help="default: SQLite in mlruns/ of this folder")


@contextmanager
def errors_as_messages() -> Iterator[None]:
    """End the program with a message, not a traceback, for what the user can mend, and for an interrupt."""
    try:
        yield
    except BeansExpError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
