"""A search from its overrides to the configuration that is confirmed: ask, run, tell, and look again."""

import json
import logging
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, cast

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from optuna.trial import FrozenTrial, Trial, TrialState

from beans_exp.data.source import text_digest
from beans_exp.errors import BeansExpError, ConfigError, TooSlowError
from beans_exp.hpo import space
from beans_exp.hpo.instantiate import instantiate
from beans_exp.hpo.pruning import TrialHandle, can_prune
from beans_exp.hpo.storage import absolute_storage
from beans_exp.hpo.study import (
    FINGERPRINT,
    ORIGIN,
    TOO_SLOW,
    WAIT_SECONDS,
    Search,
    SharedStudy,
    lost_storage_as_error,
    one_at_a_time,
    open_study,
)
from beans_exp.launcher.diagnosis import JobError, is_pruned
from beans_exp.metrics import BY_NAME
from beans_exp.models.weights import weights_digest
from beans_exp.schema import Config
from beans_exp.schema.rules import at_least, broken, fraction, positive, shown
from beans_exp.startup.console import errors_as_messages
from beans_exp.sweep.composer import Composer
from beans_exp.sweep.confirm import confirm
from beans_exp.sweep.point import Point
from beans_exp.sweep.preview import print_search_preview
from beans_exp.sweep.summary import summarize
from beans_exp.sweep.sweep_jobs import SweepJobs, default_storage, objective_values, open_jobs
from beans_exp.tracking import tags

log = logging.getLogger(__name__)


@dataclass
class Options:
    """`hydra.sweeper` of the Optuna sweeper."""

    sampler: dict[str, Any]
    pruner: dict[str, Any] | None
    direction: Any = None
    storage: str | None = None
    study_name: str | None = None
    n_trials: int = 20
    n_jobs: int = 1
    max_failure_rate: float = 0.0
    timeout: float | None = None
    trial_seconds: float | None = None
    params: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        at_least("hydra.sweeper.n_trials", self.n_trials, 1)
        at_least("hydra.sweeper.n_jobs", self.n_jobs, 1)
        fraction("hydra.sweeper.max_failure_rate", self.max_failure_rate)
        positive("hydra.sweeper.timeout", self.timeout)
        positive("hydra.sweeper.trial_seconds", self.trial_seconds)
        if self.storage is not None:
            absolute_storage(self.storage)


def run_search(
    hydra_context: HydraContext, launcher: Launcher, config: DictConfig, given: dict[str, Any], arguments: Sequence[str]
) -> None:
    """Search until the study has `n_trials` trials, then confirm the best; end the program with status 1 if it failed.

    `given` holds the keys of `hydra.sweeper`. The same command goes on where an earlier one stopped.
    """
    with errors_as_messages():
        options = _options(given)
        _refuse_test(config)
        fixed, searched = space.split_overrides(space.parsed(options.params, arguments, hydra_context.config_loader))
        composer = Composer(hydra_context, config, fixed)
        first, tunes = _looked_over(composer, searched)
        search = Search(searched, _facts(first, composer), first.config.objective.directions)
        _check(options, first.config)
        if hasattr(launcher, "bounds"):
            launcher.bounds(options.n_jobs)
        name = (
            options.study_name
            or f"beans_exp-{text_digest((search.description, first.config.tracking.experiment))[:12]}"
        )
        tracking = first.config.tracking
        url = absolute_storage(options.storage or default_storage(tracking))
        if first.config.plan:
            print_search_preview(url, name, search.description, options.n_trials, composer.shared().confirm)
            return
        sweep_id = text_digest(("search", name, tracking.experiment))[:16]
        with (
            lost_storage_as_error(url),
            open_study(url, name, search, options.sampler) as study,
            open_jobs(launcher, config, tracking, sweep_id, options.n_jobs) as jobs,
        ):
            known = {"storage": url, "name": name, "wanted": options.n_trials}
            jobs.sweep.parent.set_tag(tags.STUDY, json.dumps(known))
            ok = _Loop(options, composer, study, jobs, tunes).run()
            with one_at_a_time(study):
                found = confirm(study.counted, composer, jobs, first.config.objective) if ok else None
                summarize(study, composer, jobs, first.config, found.winner if found else None)
            ok = found is not None and found.complete
    if not ok:
        sys.exit(1)


def _options(given: dict[str, Any]) -> Options:
    known = {item.name for item in fields(Options)}
    typed = OmegaConf.structured(Options)
    for key, value in given.items():
        if key not in known:
            raise ConfigError(
                f"hydra.sweeper.{key} is not a key of the Optuna sweeper; known: {', '.join(sorted(known))}"
            )
        try:
            typed[key] = value
        except OmegaConfBaseException as error:
            hint = f". Choose an option with hydra/sweeper/{key}=NAME" if key in ("sampler", "pruner") else ""
            raise ConfigError(f"hydra.sweeper.{key}={shown(value)}: {str(error).splitlines()[0]}{hint}") from error
    return cast(Options, OmegaConf.to_object(typed))


def _refuse_test(config: DictConfig) -> None:
    names = config.objective.name
    for metric in [names] if isinstance(names, str) else names:
        if metric in BY_NAME and BY_NAME[metric].needs_test:
            raise broken("objective.name", metric, "a metric of training or validation in a search: no trial is tested")


def _check(options: Options, config: Config) -> None:
    direction, wanted = options.direction, config.objective.direction
    if direction is not None and direction != wanted:
        raise broken("hydra.sweeper.direction", direction, f"{wanted}, as objective.direction says, or null")
    if options.pruner:
        instantiate(options.pruner, "hydra.sweeper.pruner")
    if len(config.objective.metrics) > 1 and config.tracking.save_model == "best":
        raise broken("tracking.save_model", "best", "all or none with several objectives: none is the best")
    if options.pruner and not can_prune(config) and not str(options.pruner["_target_"]).endswith("NopPruner"):
        names = ", ".join(config.objective.metrics)
        log.warning("no trial is pruned by its values: objective.name=%s has no single one after an epoch", names)


def _looked_over(composer: Composer, searched: Mapping[str, Any]) -> tuple[Point, bool]:
    """Return the first point of the search, and whether any that was looked at tunes blocks.

    Every end of every range is composed, so that what cannot be run, or cannot act, is found before anything is
    trained: each parameter is varied while the others are at their first values, and while they are at their last ones;
    one that does not act there, beside each other choice of the others.
    """
    if not searched:
        raise ConfigError("the search space is empty: leave something open, for example finetune.blocks=range(0,12)")
    ends = {key: space.ends(distribution) for key, distribution in searched.items()}
    corners = [{key: values[place] for key, values in ends.items()} for place in (0, -1)]
    others = [corners[0] | {key: value} for key, values in ends.items() for value in values[1:]]
    first = composer.point(corners[0])
    tunes = False
    for key, values in ends.items():
        acts = False
        for place, corner in enumerate([*corners, *others]):
            if acts and place >= len(corners):
                break
            points = [composer.point(corner | {key: value}) for value in values]
            _require_one_sweep(key, first, points)
            acts |= len({point.fingerprint for point in points}) > 1
            tunes |= any(point.config.finetune.blocks > 0 for point in points)
        if not acts:
            option = next((str(inert) for inert in points[-1].inert), f"{key} decides nothing")
            raise ConfigError(f"{option}; it acts at no point of the search. Leave it out")
    return first, tunes


def _require_one_sweep(key: str, first: Point, points: Sequence[Point]) -> None:
    """Raise ConfigError where `key` varies what belongs to the search as a whole."""
    for group in ("tracking", "objective", "plan"):
        if any(getattr(point.config, group) != getattr(first.config, group) for point in points):
            raise ConfigError(f"{key}: {group} cannot be searched: a search has one")


def _facts(first: Point, composer: Composer) -> dict[str, str]:
    """What a study's values rest on beside its space: whoever shares it must have the same."""
    from importlib.metadata import version

    described = composer.points.source(first.config)
    left_out = ("hydra.", "tracking.", "confirm.", "plan=", "data.data_dir=", "data.cache_dir=", "features.")
    fixed = sorted(word for word in composer.fixed if not word.lstrip("+~").startswith(left_out))
    objective = zip(first.config.objective.directions, first.config.objective.metrics, strict=True)
    facts = {
        "objective": ", ".join(" ".join(pair) for pair in objective),
        "fixed overrides": " ".join(fixed),
        "data": f"{described.name} {described.version} {described.digest[:16]}",
        "beans_exp": version("beans-exp"),
    }
    if first.config.model.pretrained:
        facts["weights"] = str(weights_digest(first.config.model))[:16]
    return facts


class _Loop:
    """Asks for trials while there is room, and tells what became of them."""

    def __init__(self, options: Options, composer: Composer, study: SharedStudy, jobs: SweepJobs, tunes: bool) -> None:
        self.options = options
        self.composer = composer
        self.study = study
        self.jobs = jobs
        self.tunes = tunes
        self.running: dict[int, tuple[Trial, Point]] = {}
        self.waiting: list[tuple[Trial, Point]] = []
        """Trials that are equal to one that another process has under way."""
        self.ends = time.monotonic() + options.timeout if options.timeout else float("inf")

    def run(self) -> bool:
        """Run trials to the end of the search; return whether it did not fail."""
        self._close_dead()
        log.info("study %s: %d of %d trials are there", self.study.name, len(self.study.counted), self.options.n_trials)
        while True:
            while self.jobs.has_room and self._goes_on and not self.waiting:
                self._next()
            if self.running:
                for number, result in self.jobs.wait():
                    self._tell(*self.running.pop(number), result)
            elif self.waiting or (self.study.others and not self._is_over):
                time.sleep(WAIT_SECONDS)  # their ends may leave points to try again
            else:
                return self._judged()
            self._close_dead()
            self._look_again()

    @property
    def _goes_on(self) -> bool:
        enough = len(self.study.counted) >= self.options.n_trials
        return not enough and not self.study.exhausted and not self._is_over

    @property
    def _is_over(self) -> bool:
        """Whether no trial starts any more, whatever other processes have under way."""
        return time.monotonic() >= self.ends or self._too_many_failed

    @property
    def _failed(self) -> list[FrozenTrial]:
        """The trials that failed by themselves; what killed a sweep's process says nothing of its trials."""
        found = [trial for trial in self.study.counted if trial.state == TrialState.FAIL]
        return [trial for trial in found if tags.CAUSE in trial.user_attrs]

    @property
    def _too_many_failed(self) -> bool:
        return len(self._failed) > self.options.max_failure_rate * self.options.n_trials

    def _judged(self) -> bool:
        if self._too_many_failed:
            rate = self.options.max_failure_rate
            causes = {str(trial.user_attrs[tags.CAUSE]) for trial in self._failed}
            print(f"the search failed: {len(self._failed)} trials did, hydra.sweeper.max_failure_rate={rate:g}")
            print("\n".join(f"  {cause}" for cause in sorted(causes)))
            return False
        completed = any(trial.state == TrialState.COMPLETE for trial in self.study.counted)
        if not completed:
            print("the search failed: no trial completed, so there is nothing to confirm")
        return completed

    def _close_dead(self) -> None:
        """Give up the trials of dead processes, and the runs that they left open."""
        for trial in self.study.close_dead():
            if fingerprint := trial.user_attrs.get(FINGERPRINT):
                self.jobs.close_run(fingerprint, JobError("killed", "its process has died, or its machine is away"))

    def _look_again(self) -> None:
        """Tell or start the trials whose equal ones have ended."""
        waiting, self.waiting = self.waiting, []
        for trial, point in waiting:
            self._start(trial, point)

    def _next(self) -> None:
        """Ask for a trial, and start it unless its value is known."""
        trial = self.study.ask()
        if trial.number not in {one.number for one in self.study.counted[: self.options.n_trials]}:
            self.study.withdraw(trial)  # other processes asked for the last ones at the same moment
            return
        try:
            point = self.composer.point(trial.params)
        except ConfigError as error:
            self._fail(trial, str(error))
            return
        trial.set_user_attr(FINGERPRINT, point.fingerprint)
        if point.inert:
            trial.set_user_attr(ORIGIN, trial.user_attrs.get(ORIGIN, "reduced"))
        self._start(trial, point)

    def _start(self, trial: Trial, point: Point) -> None:
        """Start a trial, unless its value is known, or an earlier one that may be equal is under way."""
        before = [other.user_attrs.get(FINGERPRINT) for other in self.study.others if other.number < trial.number]
        before += [other.fingerprint for _, other in self.running.values()]
        if point.fingerprint in before or None in before:
            self.waiting.append((trial, point))
            return
        if self._told_already(trial, point):
            return
        options = self.options
        study = TrialHandle(
            self.study.url, self.study.name, trial._trial_id, options.pruner, options.trial_seconds, self.tunes
        )
        self.running[self.jobs.start(point, study.dumps())] = (trial, point)

    def _told_already(self, trial: Trial, point: Point) -> bool:
        """Tell the value of a finished run that is the same, or what an equal trial ended with."""
        values = self.jobs.reuse(point)
        if values is not None:
            trial.set_user_attr(ORIGIN, "reused")
            trial.set_user_attr("beans.run", self.jobs.run_id(point.fingerprint))
            self._complete(trial, values)
            return True
        equal = [other for other in self.study.counted if other.user_attrs.get(FINGERPRINT) == point.fingerprint]
        for other in equal:
            if other.state == TrialState.PRUNED:
                trial.set_user_attr(ORIGIN, f"equal to trial {other.number}")
                trial.set_user_attr(TOO_SLOW, other.user_attrs.get(TOO_SLOW, False))
                for step, value in other.intermediate_values.items():
                    trial.report(value, step)
                self.study.tell(trial, None, TrialState.PRUNED)
                return True
        return False

    def _tell(self, trial: Trial, point: Point, result: JobReturn) -> None:
        if self.study.has_ended(trial):
            log.warning("trial %d: another machine took this one for dead, and tries its point again", trial.number)
            return
        error = result._return_value
        trial.set_user_attr("beans.run", self.jobs.run_id(point.fingerprint))
        if result.status == JobStatus.COMPLETED:
            self._complete(trial, objective_values(result))
        elif is_pruned(result):
            trial.set_user_attr(TOO_SLOW, isinstance(error, TooSlowError))
            self.study.tell(trial, None, TrialState.PRUNED)
            print(f"trial {trial.number}: {error}")
        else:
            known = isinstance(error, BeansExpError | JobError)
            self._fail(trial, str(error) if known else f"{type(error).__name__}: {error}")

    def _complete(self, trial: Trial, values: Sequence[float]) -> None:
        self.study.tell(trial, values, TrialState.COMPLETE)
        shown = ", ".join(f"{value:.4f}" for value in values)
        origin = trial.user_attrs.get(ORIGIN)
        print(f"trial {trial.number}: {shown}{f' ({origin})' if origin else ''}  {' '.join(space.words(trial.params))}")

    def _fail(self, trial: Trial, cause: str) -> None:
        trial.set_user_attr(tags.CAUSE, cause[:500])
        self.study.tell(trial, None, TrialState.FAIL)
        print(f"trial {trial.number} failed: {cause}  {' '.join(space.words(trial.params))}")
