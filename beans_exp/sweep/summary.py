"""The summary of a search: its best trial with the command that runs it again, and figures of its history."""

import logging
import shlex
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import optuna
from matplotlib.figure import Figure
from optuna.trial import FrozenTrial, TrialState

from beans_exp.hpo.storage import dashboard_address
from beans_exp.hpo.study import SharedStudy
from beans_exp.hpo.trial_attrs import FINGERPRINT, ORIGIN, RUN, TOO_SLOW
from beans_exp.schema import Config
from beans_exp.sweep.composer import Composer
from beans_exp.sweep.confirm import Confirmation
from beans_exp.sweep.point import Point
from beans_exp.sweep.sweep_jobs import SweepJobs

log = logging.getLogger(__name__)


def summarize(
    study: SharedStudy, composer: Composer, jobs: SweepJobs, config: Config, confirmed: Confirmation | None
) -> None:
    """Print the counts and the best trials; log all trials and the figures to the parent run."""
    for trial in study.counted:  # by other processes and earlier commands
        if trial.state in (TrialState.COMPLETE, TrialState.PRUNED) and FINGERPRINT in trial.user_attrs:
            jobs.completed.setdefault(trial.user_attrs[FINGERPRINT], trial.state == TrialState.COMPLETE)
    print(_summary(study.counted))
    several = len(config.objective.metrics) > 1
    best = study.study.best_trials if any(trial.state == TrialState.COMPLETE for trial in study.counted) else []
    for trial in best if several else best[:1]:
        _print_trial("best", trial, composer, config)
    if confirmed is not None and confirmed.ranked:
        print("\n".join(_confirmed(confirmed, config.objective.metrics[0], jobs.run_id)))
        print(f"  {_command(confirmed.ranked[0].trial, composer)}")
    jobs.sweep.parent.log_text(study.study.trials_dataframe().to_csv(index=False), "trials.csv")
    if not several:
        _log_figures(study.study, jobs, config.objective.metrics[0])
    print(f"experiment {config.tracking.experiment}: {jobs.sweep.hint}")
    if (address := dashboard_address(study.url)) is not None:
        print(f"study {study.name}: optuna-dashboard {shlex.quote(address)}")


def _print_trial(heading: str, trial: FrozenTrial, composer: Composer, config: Config) -> None:
    """Print a trial, its run, and a command that runs it again."""
    pairs = zip(config.objective.metrics, trial.values, strict=True)
    values = ", ".join(f"{name} {value:.4f}" for name, value in pairs)
    print(f"{heading} trial {trial.number}: {values}, run {trial.user_attrs.get(RUN, '')}")
    print(f"  {_command(trial, composer)}")


def _command(trial: FrozenTrial, composer: Composer) -> str:
    return shlex.join([*composer.program, *composer.single_run(trial.params)])


def _confirmed(confirmed: Confirmation, name: str, run_id: Callable[[str], str]) -> Iterator[str]:
    """Yield the winner's confirming mean, how far it can be trusted, and its test."""
    winner, count = confirmed.ranked[0], len(confirmed.ranked)
    mean = f"mean {name} {winner.spread}"
    yield f"confirmed on fresh seeds: trial {winner.trial.number}: {mean}, {_runs(winner.points, run_id)}"
    if count > 1:
        yield f"  the best of {count} means is optimistic: of three, by 0.9 to 2.4 points of accuracy in simulations"
    if tested := confirmed.tested:
        accuracies = ", ".join(f"{value:.4f}" for value in tested.accuracies) or "no run completed"
        yield f"  tested on seeds drawn after the choice: test/accuracy {accuracies}, {_runs(tested.points, run_id)}"
        again = " (each further look makes the best test result more optimistic)" if tested.looks > 1 else ""
        yield f"  this study has tested {tested.looks} winner{'s' * (tested.looks > 1)} on the test images{again}"


def _runs(points: Sequence[Point], run_id: Callable[[str], str]) -> str:
    return "runs " + ", ".join(f"{run_id(point.fingerprint)[:8]} (seed {point.config.seed})" for point in points)


def _summary(trials: list[FrozenTrial]) -> str:
    counts = {state.name.lower(): sum(trial.state == state for trial in trials) for state in TrialState}
    origins = [str(trial.user_attrs.get(ORIGIN, "")).partition(" ")[0] for trial in trials]
    counts |= {name: origins.count(name) for name in ("reused", "reduced", "equal", "retry")}
    text = f"{len(trials)} trials: " + ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    if slow := sum(trial.user_attrs.get(TOO_SLOW, False) for trial in trials):
        way_out = "Search again with a longer hydra.sweeper.trial_seconds and another hydra.sweeper.study_name"
        text += f"\n{slow} pruned for their duration, not their values. {way_out}"
    return text


def _log_figures(study: optuna.Study, jobs: SweepJobs, objective: str) -> None:
    import optuna.visualization.matplotlib as plots

    figures: dict[str, tuple[Callable[..., Any], str]] = {
        "history.png": (plots.plot_optimization_history, "History of"),
        "importances.png": (plots.plot_param_importances, "Importance of the parameters for"),
    }
    complete = len(study.get_trials(deepcopy=False, states=[TrialState.COMPLETE]))
    for name, (draw, subject) in figures.items():
        if (figure := _draw(draw, study, objective, f"{subject} {objective}, {complete} complete trials")) is not None:
            jobs.sweep.parent.log_figure(figure, name)


def _draw(draw: Callable[..., Any], study: optuna.Study, objective: str, title: str) -> Figure | None:
    """Return the figure; None if there are too few trials for it."""
    import matplotlib.pyplot as plt

    plt.switch_backend("agg")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the plots are experimental
            axes = draw(study, target_name=objective)
    except Exception as error:  # too few trials, or whatever Matplotlib raises
        log.info("%s", error)
        return None
    axes.set_title("", loc="left")  # where a plot has its own
    axes.set_title(title)
    if axes.get_legend_handles_labels()[0]:  # Matplotlib warns about a legend without entries
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    figure: Figure = axes.figure
    figure.set_size_inches(9, 4.5)
    figure.tight_layout()
    plt.close(figure)
    return figure
