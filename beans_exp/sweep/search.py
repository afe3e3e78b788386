"""A search from its overrides to its confirmed configuration."""

import json
from collections.abc import Sequence
from typing import Any

from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext
from omegaconf import DictConfig
from optuna.distributions import BaseDistribution

from beans_exp.data.source import text_digest
from beans_exp.hpo import space
from beans_exp.hpo.confirmation_lock import confirmation_lock
from beans_exp.hpo.sampler import make_sampler, number_of_points
from beans_exp.hpo.storage import absolute_storage, lost_storage_as_error
from beans_exp.hpo.study import SharedStudy, open_study
from beans_exp.startup.console import errors_as_messages, exit_status, exit_when_done
from beans_exp.sweep.composer import Composer
from beans_exp.sweep.confirm import confirm
from beans_exp.sweep.preview import print_search_preview
from beans_exp.sweep.search_loop import SearchLoop
from beans_exp.sweep.search_options import SearchOptions, check_options, read_options, refuse_test_metrics
from beans_exp.sweep.search_space import CheckedSpace, check_space
from beans_exp.sweep.search_verdict import judge
from beans_exp.sweep.study_description import default_study_name, describe_study
from beans_exp.sweep.summary import summarize
from beans_exp.sweep.sweep_jobs import SweepJobs, default_storage, open_jobs
from beans_exp.tracking import tags


def run_search(
    hydra_context: HydraContext, launcher: Launcher, config: DictConfig, given: dict[str, Any], arguments: Sequence[str]
) -> None:
    """Search until the study has `n_trials` trials, then confirm the best.

    `given` holds the keys of `hydra.sweeper`. The same command resumes the search. The program will exit with status 1
    if the search failed.
    """
    with errors_as_messages():
        options = read_options(given)
        refuse_test_metrics(config)
        overrides = space.parse_overrides(options.params, arguments, hydra_context.config_loader)
        fixed, searched = space.split_overrides(overrides)
        composer = Composer(hydra_context, config, fixed)
        checked = check_space(composer, searched)
        description = describe_study(composer, checked.first, searched)
        first = checked.first.config
        check_options(options, first)
        if hasattr(launcher, "bounds"):
            launcher.bounds(options.n_jobs)
        url = absolute_storage(options.storage or default_storage(first.tracking))
        experiment = first.tracking.experiment
        name = options.study_name or default_study_name(description.entries, experiment)
        n_trials = _planned_trials(options, searched)
        if first.plan:
            print_search_preview(url, name, description.shown, n_trials, composer.shared_config().confirm)
            return
        sweep_id = text_digest(("search", name, experiment))[:16]
        with (
            lost_storage_as_error(url),
            open_study(url, name, description, options.sampler) as study,
            open_jobs(launcher, config, first.tracking, sweep_id, options.n_jobs) as jobs,
        ):
            wanted = {"storage": url, "name": name, "wanted": options.n_trials}
            jobs.sweep.parent.set_tag(tags.STUDY, json.dumps(wanted))
            succeeded = _search_and_confirm(options, composer, checked, study, jobs)
        unsent = jobs.sweep.report_unsent()  # once the parent run is closed
    exit_when_done(exit_status(failed=not succeeded, unsent=unsent))


def _planned_trials(options: SearchOptions, searched: dict[str, BaseDistribution]) -> int:
    """The number of trials: `n_trials`, or fewer if the sampler draws each point once; it is made, to be checked."""
    make_sampler(options.sampler, searched)
    points = number_of_points(options.sampler, searched)
    return options.n_trials if points is None else min(options.n_trials, points)


def _search_and_confirm(
    options: SearchOptions, composer: Composer, checked: CheckedSpace, study: SharedStudy, jobs: SweepJobs
) -> bool:
    """Run the trials, confirm the best of them, and summarize; return whether the search and every run succeeded."""
    config = checked.first.config
    SearchLoop(options, composer, study, jobs, checked.tunes).run()
    succeeded = judge(study.counted, options)
    jobs.sweep.send_queued()
    with confirmation_lock(study):
        confirmed = confirm(study, composer, jobs, config.objective) if succeeded else None
        summarize(study, composer, jobs, config, confirmed)
    return confirmed is not None and confirmed.complete
