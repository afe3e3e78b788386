"""The user attributes of a trial: which process runs it, which point it is, and how it ended."""

from collections.abc import Iterable

from optuna.trial import FrozenTrial, TrialState

OWNER = "beans.process"
HEARTBEAT = "beans.beat"
"""Seconds since the epoch by the owner's clock, renewed while the owner lives."""
RETRIED = "beans.retried"
"""Set where another trial retries the point, or where a trial exceeded `n_trials`: it does not count."""
RETRIES = "beans.retries"
"""Set on a trial whose point failed in an earlier command: those trials, whose state cannot change, do not count."""
FINGERPRINT = "beans.fingerprint"
RUN = "beans.run"
"""The id of the MLflow run that the trial's value comes from."""
ORIGIN = "beans.origin"
"""Where the value comes from if not from a run of this trial, or which trial is retried."""
TOO_SLOW = "beans.too_slow"
"""Whether the trial was pruned for its time."""
CAUSE = "beans.cause"
"""Why the trial failed."""


def counted(trials: Iterable[FrozenTrial]) -> list[FrozenTrial]:
    """Return the trials that count toward `n_trials`: neither retried by another one nor waiting to be drawn."""
    found: list[FrozenTrial] = []
    for trial in trials:
        if RETRIES in trial.user_attrs:
            found = [other for other in found if other.params != trial.params or CAUSE not in other.user_attrs]
        if RETRIED not in trial.user_attrs and trial.state != TrialState.WAITING:
            found.append(trial)
    return found
