"""The loop of a search: ask for trials while there is room, start them, record how they end."""

import logging
import time

from optuna.trial import Trial

from beans_exp.errors import ConfigError
from beans_exp.hpo.leases import WAIT_SECONDS
from beans_exp.hpo.pruning import TrialHandle
from beans_exp.hpo.study import SharedStudy
from beans_exp.hpo.trial_attrs import FINGERPRINT, ORIGIN
from beans_exp.launcher.diagnosis import JobError
from beans_exp.sweep.composer import Composer
from beans_exp.sweep.equal_trials import must_wait, prune_like_equal
from beans_exp.sweep.point import Point
from beans_exp.sweep.search_options import SearchOptions
from beans_exp.sweep.search_verdict import too_many_failed
from beans_exp.sweep.sweep_jobs import SweepJobs
from beans_exp.sweep.trial_results import TrialResults

log = logging.getLogger(__name__)


class SearchLoop:
    """Runs trials until the study has `n_trials`; `tunes` says whether any of them may tune blocks."""

    def __init__(
        self, options: SearchOptions, composer: Composer, study: SharedStudy, jobs: SweepJobs, tunes: bool
    ) -> None:
        self.options = options
        self.composer = composer
        self.study = study
        self.jobs = jobs
        self.tunes = tunes
        self.results = TrialResults(study, jobs.run_id)
        self.running: dict[int, tuple[Trial, Point]] = {}
        """By job number."""
        self.waiting: list[tuple[Trial, Point]] = []
        """Trials that wait for an equal one."""
        self.deadline = time.monotonic() + options.timeout if options.timeout else float("inf")

    def run(self) -> None:
        """Run trials until none is left to start, and none runs, in this process or, in time, in another one."""
        self._close_abandoned()
        if retried := self.study.retry_failed():
            log.info(
                "study %s: %d points that failed in earlier commands are tried again", self.study.name, len(retried)
            )
        log.info("study %s: %d of %d trials exist", self.study.name, len(self.study.counted), self.options.n_trials)
        while True:
            while self._may_ask:
                self._ask()
            if self.running:
                self._record_ended()
            elif self.waiting or (self.study.leases.others and not self._is_over):
                time.sleep(WAIT_SECONDS)  # trials of other processes may leave points to retry
            else:
                return
            self._close_abandoned()
            self._start_waiting()

    @property
    def _may_ask(self) -> bool:
        if self.waiting or not self.jobs.has_room or self.study.exhausted or self._is_over:
            return False
        return len(self.study.counted) < self.options.n_trials

    @property
    def _is_over(self) -> bool:
        """Whether no further trial starts, even if one is left."""
        return time.monotonic() >= self.deadline or too_many_failed(self.study.counted, self.options)

    def _ask(self) -> None:
        """Ask for a trial and start it; fail it if its point cannot run."""
        trial = self.study.ask_within(self.options.n_trials)
        if trial is None:
            return
        try:
            point = self.composer.point(trial.params)
        except ConfigError as error:
            self.results.fail(trial, str(error))
            return
        trial.set_user_attr(FINGERPRINT, point.fingerprint)
        if point.inert:
            trial.set_user_attr(ORIGIN, trial.user_attrs.get(ORIGIN, "reduced"))
        self._start(trial, point)

    def _start(self, trial: Trial, point: Point) -> None:
        """Start the job of `trial`, unless an equal trial runs or has a result to reuse."""
        if must_wait(self.study, trial, point.fingerprint, [other.fingerprint for _, other in self.running.values()]):
            self.waiting.append((trial, point))
        elif (values := self.jobs.reuse(point)) is not None:
            self.results.reuse(trial, point.fingerprint, values)
        elif not prune_like_equal(self.study, trial, point.fingerprint):
            handle = TrialHandle.of(
                trial, self.study.url, self.options.pruner, seconds=self.options.trial_seconds, tunes=self.tunes
            )
            self.running[self.jobs.start(point, handle.dumps())] = (trial, point)

    def _start_waiting(self) -> None:
        """Start the trials whose equal ones have ended."""
        waiting, self.waiting = self.waiting, []
        for trial, point in waiting:
            self._start(trial, point)

    def _record_ended(self) -> None:
        for number, result in self.jobs.wait():
            trial, point = self.running.pop(number)
            self.results.record(trial, point.fingerprint, result)

    def _close_abandoned(self) -> None:
        """Close the trials of dead processes, and the runs that they left open."""
        for trial in self.study.leases.close_abandoned():
            if fingerprint := trial.user_attrs.get(FINGERPRINT):
                cause = "its process died, or its machine is unreachable"
                self.jobs.close_run(fingerprint, JobError("killed", cause))
