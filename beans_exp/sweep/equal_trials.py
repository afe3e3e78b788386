"""Trials of the same point: while one runs the others wait, and once it was pruned they are pruned like it.

A trial that is equal to a completed one reuses its run, as any job does; one that is equal to a failed one runs.
"""

from collections.abc import Iterable

from optuna.trial import FrozenTrial, Trial, TrialState

from beans_exp.hpo.study import SharedStudy
from beans_exp.hpo.trial_attrs import FINGERPRINT, ORIGIN, TOO_SLOW


def must_wait(study: SharedStudy, trial: Trial, fingerprint: str, running: Iterable[str]) -> bool:
    """Whether an equal trial runs: among `running`, the fingerprints of this process, or earlier in another process.

    An earlier trial without a fingerprint has not drawn its point yet, and may turn out to be equal.
    """
    earlier = [other.user_attrs.get(FINGERPRINT) for other in study.leases.others if other.number < trial.number]
    return None in earlier or fingerprint in (*earlier, *running)


def prune_like_equal(study: SharedStudy, trial: Trial, fingerprint: str) -> bool:
    """Prune `trial` if an equal one was pruned, with a copy of its reports; return whether it was."""
    equal = _find_pruned(study, fingerprint)
    if equal is None:
        return False
    trial.set_user_attr(ORIGIN, f"equal to trial {equal.number}")
    trial.set_user_attr(TOO_SLOW, equal.user_attrs.get(TOO_SLOW, False))
    for step, value in equal.intermediate_values.items():
        trial.report(value, step)
    study.tell(trial, None, TrialState.PRUNED)
    return True


def _find_pruned(study: SharedStudy, fingerprint: str) -> FrozenTrial | None:
    equal = (trial for trial in study.counted if trial.user_attrs.get(FINGERPRINT) == fingerprint)
    return next((trial for trial in equal if trial.state == TrialState.PRUNED), None)
