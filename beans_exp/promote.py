"""Register the model of a run in MLflow, under a name and an alias that other programs can rely on.

    python -m beans_exp.promote RUN_ID                             # models:/beans_exp@champion
    python -m beans_exp.promote RUN_ID --name leaves --alias best  # models:/leaves@best

Promoting the same run again creates no new version; promoting another one moves the alias.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence

from beans_exp.schema import TrackingConfig
from beans_exp.startup.console import add_tracking_uri, command_parser, errors_as_messages
from beans_exp.startup.imports import no_collections, quiet_libraries, silent_stderr
from beans_exp.tracking.store import connect, store_uri

SERVE = "MLFLOW_TRACKING_URI={store} mlflow models serve --model-uri {model} --env-manager local --port {port}"
"""Serve the model from this environment; `mlflow models serve` reads the store's address from the variable only."""
PORT = 5001
"""5000 is taken by the MLflow UI."""


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    made = command_parser("promote", __doc__)
    made.add_argument("run", metavar="RUN_ID", help="a run's id or its beginning, or a model's URI")
    made.add_argument("--name", default="beans_exp", help="name in the registry (beans_exp)")
    made.add_argument("--alias", default="champion", help="alias in the registry (champion)")
    add_tracking_uri(made)
    return made


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line `words`; return the exit status."""
    arguments = parser().parse_args(words)
    quiet_libraries()
    with errors_as_messages():
        print(promote(arguments.run, arguments.name, arguments.alias, arguments.tracking_uri))
    return 0


def promote(run: str, name: str, alias: str, tracking_uri: str | None) -> str:
    """Register the model of `run` as `name`, move `alias` to it, and return instructions for using it.

    Raises BeansExpError for a missing run, model or store, for a model that holds or names code, and for names that
    MLflow does not accept.
    """
    with no_collections():
        from beans_exp.tracking.registry import fetched, find_model, load, register

    store = store_uri(TrackingConfig(uri=tracking_uri))
    client = connect(store)
    model = find_model(client, run)
    with fetched(model) as found:
        with silent_stderr():  # TensorFlow is imported here, once the model is found
            load(found)  # what cannot be loaded safely here must not be served elsewhere
        version = register(client, model, name, alias)
        return _instructions(f"models:/{name}@{alias}", version, store, tracking_uri, found.image_size)


def _instructions(model: str, version: str, store: str, tracking_uri: str | None, size: int) -> str:
    classify = ["python", "-m", "beans_exp.predict", model, "IMAGE_OR_FOLDER"]
    where = ["--tracking-uri", tracking_uri] if tracking_uri else []
    serve = SERVE.format(store=shlex.quote(store), model=shlex.quote(model), port=PORT)
    return "\n".join(
        [
            f"{model} is version {version}",
            f"classify: {shlex.join(classify + where)}",
            f"serve:    {serve}",
            f"query:    POST http://127.0.0.1:{PORT}/invocations, JSON: "
            f'{{"inputs": [images of {size} x {size} x 3 values in 0..255]}} -> {{"predictions": [logits]}}',
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
