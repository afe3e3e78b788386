"""Shared by all commands: the options that name the store, and errors as one-line messages."""

import errno
import sys
from argparse import ArgumentParser, ArgumentTypeError, RawTextHelpFormatter
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path

from beans_exp.errors import BeansExpError
from beans_exp.files import user_path
from beans_exp.schema import TrackingConfig
from beans_exp.schema.python_source import use_folder

UNSENT = 3
"""The exit status of runs that succeeded, but part of which is still on disk for their store."""


def command_parser(name: str, doc: str | None) -> ArgumentParser:
    """Return the parser of `python -m beans_exp.NAME`, described by its module's `doc`: a line, then examples."""
    first, _, rest = str(doc).partition("\n\n")
    return ArgumentParser(
        f"python -m beans_exp.{name}", description=first, epilog=rest, formatter_class=RawTextHelpFormatter
    )


def add_experiment(parser: ArgumentParser) -> None:
    """Add the experiment whose runs a command reads, and its store."""
    default = TrackingConfig().experiment
    parser.add_argument("experiment", nargs="?", default=default, help=f"default: {default}")
    add_tracking_uri(parser)


def add_tracking_uri(parser: ArgumentParser) -> None:
    """Add the address of the MLflow store that a command reads."""
    parser.add_argument(
        "--tracking-uri", metavar="URI", help="the MLflow store; default: MLFLOW_TRACKING_URI, or mlruns/"
    )


def add_storage(parser: ArgumentParser) -> None:
    """Add the address of the Optuna storage in which a command finds the studies of searches."""
    parser.add_argument("--storage", metavar="URL", help="the storage of searches; default: optuna.db beside the store")


_status = [0]


def exit_when_done(status: int) -> None:
    """Make the program exit with `status` at its end: an exit now would skip the callbacks that Hydra calls last."""
    _status[0] = status


@contextmanager
def deferred_exit() -> Iterator[None]:
    """Exit after the block with the status that `exit_when_done` was given in it."""
    _status[0] = 0
    yield
    if _status[0]:
        sys.exit(_status[0])


def exit_status(*, failed: bool, unsent: bool) -> int:
    """Return the exit status of runs that have ended: 0 only if all succeeded, and their store has everything."""
    return 1 if failed else UNSENT if unsent else 0


def add_config_dir(parser: ArgumentParser) -> None:
    """Add the folder whose modules define layers of the user's own."""
    parser.add_argument(
        "--config-dir",
        type=_used_folder,
        metavar="DIR",
        help="the folder of a model of your own, as in its training; needed only if it has layers of its own",
    )


def _used_folder(text: str) -> Path:
    folder = user_path(text)
    if not folder.is_dir():
        raise ArgumentTypeError(f"{text}: must be an existing folder")
    use_folder(folder)
    return folder


@contextmanager
def errors_as_messages() -> Iterator[None]:
    """End the program with one line, not a traceback, for an error that the user can fix, and for an interrupt.

    What the terminal cannot show, such as a file name that is not UTF-8, is printed escaped.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        yield
    except BeansExpError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        print(f"error: {error}. Free space, and run the same command again", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
