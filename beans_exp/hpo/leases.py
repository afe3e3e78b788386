"""Which process runs which trial of a study that several processes share; abandoned trials are closed and retried."""

import json
import logging
import time
from collections.abc import Callable
from contextlib import suppress

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from beans_exp.hpo.trial_attrs import CAUSE, HEARTBEAT, ORIGIN, OWNER, RETRIED, RETRIES, counted
from beans_exp.processes import host_of, is_dead, this_process

log = logging.getLogger(__name__)

WAIT_SECONDS = 0.5
MAX_MISSED = 10
"""A trial of another machine is presumed dead after so many of our own beats without one of its: clocks may differ."""


class Leases:
    """The running trials of a study: those this process owns, and those of other processes."""

    def __init__(self, study: optuna.Study) -> None:
        self.study = study
        self.owned: set[int] = set()
        """Optuna's ids of the trials, not their numbers."""
        self._last_seen: dict[int, tuple[float, int]] = {}
        """The last heartbeat of each trial of another process, and how many of our beats it has stayed the same."""

    def acquire(self, trial: Trial) -> None:
        """Make this process the owner of `trial`."""
        trial.set_user_attr(OWNER, this_process())
        trial.set_user_attr(HEARTBEAT, time.time())
        self.owned.add(trial._trial_id)

    def release(self, trial: Trial) -> None:
        """Stop renewing `trial`, which ends."""
        self.owned.discard(trial._trial_id)

    def renew(self) -> None:
        """Write a heartbeat to each trial that this process owns."""
        for trial_id in list(self.owned):
            with suppress(Exception):  # it ended at the same moment, or the storage is unreachable for a while
                self.study._storage.set_trial_user_attr(trial_id, HEARTBEAT, time.time())

    def count_missed(self) -> None:
        """Count, for each trial of another process, our beats since its heartbeat last changed."""
        beats = {trial._trial_id: trial.user_attrs.get(HEARTBEAT, 0.0) for trial in self.others}
        before = self._last_seen
        self._last_seen = {
            trial_id: (beat, before[trial_id][1] + 1 if trial_id in before and before[trial_id][0] == beat else 0)
            for trial_id, beat in beats.items()
        }

    @property
    def others(self) -> list[FrozenTrial]:
        """The running trials of other processes."""
        return [trial for trial in self._running() if trial._trial_id not in self.owned]

    def is_abandoned(self, trial: FrozenTrial) -> bool:
        """Whether the process of another one's `trial` has ended, or has missed too many heartbeats."""
        _, missed = self._last_seen.get(trial._trial_id, (0.0, 0))
        owner = trial.user_attrs.get(OWNER)
        return missed >= MAX_MISSED or bool(owner and is_dead(owner))

    def close_abandoned(self) -> list[FrozenTrial]:
        """Fail the abandoned trials and return them; each point is retried once."""
        abandoned = [trial for trial in self.others if self.is_abandoned(trial)]
        for trial in abandoned:
            self._fail(trial, retry=not str(trial.user_attrs.get(ORIGIN)).startswith("retry"))
        return abandoned

    def retry_failed(self) -> list[FrozenTrial]:
        """Let the points of trials that failed in earlier commands be drawn again, and return those trials.

        A trial of another machine counts as one of an earlier command while no other process runs a trial.
        """
        busy = bool(self.others)
        failed = [trial for trial in counted(self.study.get_trials()) if CAUSE in trial.user_attrs]
        earlier = [trial for trial in failed if self._is_of_earlier_command(trial, busy=busy)]
        points = {json.dumps(trial.params, sort_keys=True): trial for trial in earlier}
        for trial in points.values():
            self.study.add_trial(_retry_of(trial, **{RETRIES: True}))
        return list(points.values())

    def _is_of_earlier_command(self, trial: FrozenTrial, *, busy: bool) -> bool:
        owner = trial.user_attrs.get(OWNER, "")
        return is_dead(owner) or (host_of(owner) != host_of(this_process()) and not busy)

    def abandon_owned(self) -> None:
        """Fail the trials that an interrupt cut short; the next process of the study retries their points."""
        for trial in self._running():
            if trial._trial_id in self.owned:
                self._fail(trial, retry=True)

    def wait_for(self, is_awaited: Callable[[FrozenTrial], bool], purpose: str) -> None:
        """Wait while other processes run trials that `is_awaited`; log their hosts and the `purpose` once."""
        logged = False
        while awaited := [trial for trial in self.others if is_awaited(trial) and not self.is_abandoned(trial)]:
            if not logged:
                hosts = {host_of(trial.user_attrs.get(OWNER, "?")) for trial in awaited}
                log.info("waiting for %s to %s", ", ".join(sorted(hosts)), purpose)
                logged = True
            time.sleep(WAIT_SECONDS)

    def _running(self) -> list[FrozenTrial]:
        return self.study.get_trials(states=(TrialState.RUNNING,))

    def _fail(self, trial: FrozenTrial, *, retry: bool) -> None:
        """Fail an unfinished trial; with `retry` its point, as the sampler drew it, is drawn next."""
        with suppress(RuntimeError, ValueError, KeyError):  # another process closed it at the same moment
            if retry:
                self.study._storage.set_trial_user_attr(trial._trial_id, RETRIED, True)
            self.study._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
            if retry:
                self.study.add_trial(_retry_of(trial))


def _retry_of(trial: FrozenTrial, **attrs: bool) -> FrozenTrial:
    return optuna.trial.create_trial(
        state=TrialState.WAITING,
        params=trial.params,
        distributions=trial.distributions,
        user_attrs={ORIGIN: f"retry of trial {trial.number}", **attrs},
        system_attrs=trial.system_attrs,
    )
