"""`run` with its heavy imports, done quietly and late: TensorFlow, Keras and MLflow take seconds."""

from beans_exp.startup.imports import no_collections, quiet_libraries, silent_stderr, use_reserved_cores

quiet_libraries()  # a job on another host does not inherit the variables of the parent
use_reserved_cores()
with silent_stderr(), no_collections():
    from beans_exp.models.build import require_model
    from beans_exp.run import run
    from beans_exp.tracking.outbox import count_queued

__all__ = ["count_queued", "require_model", "run"]
