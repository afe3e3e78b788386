"""Every MLflow tag that runs and sweeps are written and found by."""

FINGERPRINT = "beans.fingerprint"
"""The hash of everything that decides the run's result."""
STATUS = "beans.status"
"""How the run ended: `finished`, `failed`, `oom`, `killed`, `diverged` or `pruned`; absent until then."""
CAUSE = "beans.cause"
"""Why the run did not finish, on one line."""
PROCESS = "beans.process"
"""The process that holds the run open, as `processes.this_process` names it."""
OUTBOX = "beans.outbox"
"""The id of the message queue that created the run, for a run that started while its server was unreachable."""

SWEEP = "beans.sweep"
"""The id of the sweep that the run belongs to; its parent run has it, too."""
ROLE = "beans.role"
"""`SWEEP_ROLE` on the parent run of a sweep; absent on all others."""
SWEEP_ROLE = "sweep"
JOBS = "beans.jobs"
"""On the parent run of a grid: its number of jobs."""
STUDY = "beans.study"
"""On the parent run of a search: storage, name and number of trials of its Optuna study, as JSON."""

PRECISION = "beans.precision"
"""The precision used, with `auto` resolved."""
MICROBATCH = "beans.microbatch"
"""`trainer.microbatch`, if it is set."""
WEIGHTS = "beans.weights"
"""The weights of a pre-trained base: `imagenet`, or the stem of the file's name."""
THREADS = "beans.threads"
"""How many threads compute at once; durations are comparable only at equal numbers."""
HEAD_RUN = "beans.head_run"
"""The run that trained the head, for a run that reuses it."""
MODEL = "beans.model"
"""Why the run has no model: `tracking.save_model=best` kept a better one, or it was packed without its model."""
NOT_PACKED = "not packed"
"""The value of `MODEL` on a run that was unpacked without the model that it has elsewhere."""
PACKED = "beans.packed"
"""On a run that was unpacked: its id in the store where it was trained."""
VERSION = "beans.version."
"""Followed by the name of a package: its version."""

PARENT_RUN = "mlflow.parentRunId"
"""MLflow's tag for the parent run of a sweep, on each of its children."""
GIT_COMMIT = "mlflow.source.git.commit"
"""MLflow's tag for the commit of the code that ran."""
MODEL_VERSIONS = "mlflow.modelVersions"
"""MLflow's tag on a model that is in its registry."""
DATA_CONTEXT = "mlflow.data.context"
"""MLflow's tag on the data set of a run: what it was used for."""


def equals(tag: str, value: str) -> str:
    """Return the MLflow filter for runs whose `tag` is `value`."""
    return f"tags.`{tag}` = '{value}'"


IS_SWEEP = equals(ROLE, SWEEP_ROLE)
"""The MLflow filter for the parent runs of sweeps."""


def is_parent_of(sweep: str) -> str:
    """Return the MLflow filter for the parent run of `sweep`."""
    return f"{equals(SWEEP, sweep)} and {IS_SWEEP}"


def parent_tags(sweep: str) -> dict[str, str]:
    """Return the tags that the parent run of `sweep` is found by."""
    return {SWEEP: sweep, ROLE: SWEEP_ROLE}
