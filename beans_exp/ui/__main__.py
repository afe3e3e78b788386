"""View runs in a browser: serve the store of this folder with MLflow, and print the addresses of its pages.

    python -m beans_exp.ui                     # the runs of the experiment
    python -m beans_exp.ui SWEEP_ID            # a sweep, and its runs on one chart
    python -m beans_exp.ui RUN_ID RUN_ID       # runs on one chart, and side by side

It serves on this machine only, until Ctrl-C. Ids may be shortened, to 8 characters as tables show them.
"""

import argparse
import sys
import webbrowser
from collections.abc import Sequence

from beans_exp.errors import BeansExpError
from beans_exp.schema import TrackingConfig
from beans_exp.startup.console import add_tracking_uri, command_parser, errors_as_messages
from beans_exp.startup.imports import no_collections, quiet_libraries
from beans_exp.tracking.reachability import is_server
from beans_exp.tracking.store import connect, sqlite_file, store_uri
from beans_exp.ui.server import PORT, choose_port, serve

Pages = Sequence[tuple[str, str]]
"""Titles, and paths after the server's address."""


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    made = command_parser("ui", __doc__)
    made.add_argument("ids", metavar="RUN_OR_SWEEP", nargs="*", help="id of a run, a sweep or its parent run")
    made.add_argument("--experiment", help=f"without ids, the experiment to show ({TrackingConfig().experiment})")
    made.add_argument("--port", type=int, help=f"port on this machine ({PORT}, or a free one if it is taken)")
    made.add_argument("--open", action="store_true", help="open the first address in a browser")
    add_tracking_uri(made)
    return made


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line `words`; return the exit status, 0 after Ctrl-C."""
    arguments = parser().parse_intermixed_args(words)
    quiet_libraries()
    with errors_as_messages():
        try:
            _run(arguments)
        except KeyboardInterrupt:  # before the server was started
            return 0
    return 0


def _run(arguments: argparse.Namespace) -> None:
    uri = store_uri(TrackingConfig(uri=arguments.tracking_uri))
    if is_server(uri):
        if arguments.port is not None:
            raise BeansExpError(f"--port={arguments.port}: must be left out for a server, which has its own: {uri}")
        _show(uri.rstrip("/"), _pages(uri, arguments), arguments.open)
        return
    pages = _pages(uri, arguments)
    file = sqlite_file(uri)

    def show(address: str) -> None:
        print(f"serving {file or uri} at {address} until Ctrl-C")
        _show(address, pages, arguments.open)

    serve(uri, file.parent / "artifacts" if file else None, choose_port(arguments.port), show)


def _pages(uri: str, arguments: argparse.Namespace) -> Pages:
    """The pages to show. Raises BeansExpError for a store, an experiment or an id that does not exist."""
    with no_collections():
        client = connect(uri)
        from beans_exp.tracking.pages import experiment_page, run_pages

    found = run_pages(client, uri, arguments.ids) if arguments.ids else [experiment_page(uri, arguments.experiment)]
    return [(page.title, page.path) for page in found]


def _show(address: str, pages: Pages, in_browser: bool) -> None:
    for title, path in pages:
        print(f"{title}: {address}{path}", flush=True)
    if in_browser and not webbrowser.open(address + pages[0][1]):
        print("no browser found for --open: open the address in one yourself", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
