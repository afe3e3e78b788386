"""`run`, with all that it needs imported quietly: TensorFlow, Keras and MLflow take seconds, so it is done late."""

from beans_exp.startup.imports import no_collections, quiet_libraries, silent_stderr, use_reserved_cores

quiet_libraries()  # a job on another host has not the variables of the process that the sweep runs in
use_reserved_cores()
with silent_stderr(), no_collections():
    from beans_exp.run import run

__all__ = ["run"]
