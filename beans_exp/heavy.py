"""`run`, with all that it needs imported quietly: TensorFlow, Keras and MLflow take seconds, so it is done late."""

from beans_exp.libraries import no_collections, silent_stderr

with silent_stderr(), no_collections():
    from beans_exp.run import run

__all__ = ["run"]
