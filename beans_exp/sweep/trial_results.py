"""The results of trials: stored in the study, and printed as one line each."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hydra.core.utils import JobReturn, JobStatus
from optuna.trial import Trial, TrialState

from beans_exp.errors import BeansExpError, TooSlowError
from beans_exp.hpo import space
from beans_exp.hpo.study import SharedStudy
from beans_exp.hpo.trial_attrs import CAUSE, ORIGIN, RUN, TOO_SLOW
from beans_exp.launcher.diagnosis import JobError, error_of, is_pruned
from beans_exp.sweep.sweep_jobs import objective_values

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrialResults:
    """Ends trials in their study; `run_id` returns the run of a fingerprint, or an empty string."""

    study: SharedStudy
    run_id: Callable[[str], str]

    def record(self, trial: Trial, fingerprint: str, result: JobReturn) -> None:
        """End `trial` as its job did: complete, pruned or failed."""
        if self.study.has_ended(trial):
            log.warning("trial %d was presumed dead by another machine, which is retrying it", trial.number)
            return
        trial.set_user_attr(RUN, self.run_id(fingerprint))
        error = error_of(result)
        if result.status == JobStatus.COMPLETED:
            self.complete(trial, objective_values(result))
        elif is_pruned(result):
            trial.set_user_attr(TOO_SLOW, isinstance(error, TooSlowError))
            self.study.tell(trial, None, TrialState.PRUNED)
            print(f"trial {trial.number}: {error}")
        else:
            known = isinstance(error, BeansExpError | JobError)
            self.fail(trial, str(error) if known else f"{type(error).__name__}: {error}")

    def reuse(self, trial: Trial, fingerprint: str, values: Sequence[float]) -> None:
        """Complete `trial` by the objective of a finished run."""
        trial.set_user_attr(ORIGIN, "reused")
        trial.set_user_attr(RUN, self.run_id(fingerprint))
        self.complete(trial, values)

    def complete(self, trial: Trial, values: Sequence[float]) -> None:
        """Complete `trial` with its objective."""
        self.study.tell(trial, values, TrialState.COMPLETE)
        listed = ", ".join(f"{value:.4f}" for value in values)
        origin = trial.user_attrs.get(ORIGIN)
        print(f"trial {trial.number}: {listed}{f' ({origin})' if origin else ''}  {_overrides(trial)}")

    def fail(self, trial: Trial, cause: str) -> None:
        """Fail `trial`."""
        trial.set_user_attr(CAUSE, cause[:500])
        self.study.tell(trial, None, TrialState.FAIL)
        print(f"trial {trial.number} failed: {cause}  {_overrides(trial)}")


def _overrides(trial: Trial) -> str:
    return " ".join(space.to_overrides(trial.params))
