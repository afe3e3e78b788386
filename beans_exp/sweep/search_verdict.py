"""Whether a search failed, judged by the trials of its study."""

from collections.abc import Sequence

from optuna.trial import FrozenTrial, TrialState

from beans_exp.hpo.trial_attrs import CAUSE
from beans_exp.sweep.search_options import SearchOptions


def failed_trials(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return the trials whose job failed, not those whose sweep was killed."""
    return [trial for trial in trials if trial.state == TrialState.FAIL and CAUSE in trial.user_attrs]


def too_many_failed(trials: Sequence[FrozenTrial], options: SearchOptions) -> bool:
    """Whether more trials failed than `hydra.sweeper.max_failure_rate` allows."""
    return len(failed_trials(trials)) > options.max_failure_rate * options.n_trials


def judge(trials: Sequence[FrozenTrial], options: SearchOptions) -> bool:
    """Return whether the search succeeded; print why if it failed."""
    if too_many_failed(trials, options):
        failed = failed_trials(trials)
        counted = f"{len(failed)} trial{'s' if len(failed) > 1 else ''} failed"
        print(f"search failed: {counted} (hydra.sweeper.max_failure_rate={options.max_failure_rate:g})")
        print("\n".join(f"  {cause}" for cause in sorted({str(trial.user_attrs[CAUSE]) for trial in failed})))
        print("The same command tries them again; a higher hydra.sweeper.max_failure_rate tolerates them")
        return False
    completed = any(trial.state == TrialState.COMPLETE for trial in trials)
    if not completed:
        print("search failed: no trial completed, so there is nothing to confirm")
    return completed
