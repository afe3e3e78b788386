"""A run's side of a search: it reports its objective to the study after each epoch, and ends when it is pruned.

Only the epochs of a run's last stage are compared with other trials. They are numbered from that stage's first one,
which is reported but never pruned: it shows the learning rate, not where it leads. In a search that tunes a pre-trained
base, a run that only trains the head is not compared: its epochs are of another kind, and cost next to nothing. A run
needs nothing but the study's storage, so any launcher works, on any machine.
"""

import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from beans_exp.errors import PrunedError, TooSlowError
from beans_exp.hpo.instantiate import instantiate
from beans_exp.hpo.storage import connection_errors, open_storage
from beans_exp.metrics import is_per_epoch
from beans_exp.schema import Config
from beans_exp.training.history import Epoch, History

if TYPE_CHECKING:
    import optuna

log = logging.getLogger(__name__)

RUNNING_BEST = {"best/val_accuracy": "val/accuracy"}
"""Metrics of a run that are the best value so far of a metric of each epoch."""


@dataclass(frozen=True)
class TrialHandle:
    """The data with which a job finds its trial; passed as text in `sweep.study`."""

    storage: str
    name: str
    """The study's."""
    trial_id: int
    """Optuna's id in the storage, not the trial's number."""
    pruner: dict[str, Any] | None
    """A class path under `_target_`, and its arguments; None: no trial is pruned by its values."""
    seconds: float | None
    """A trial whose epochs take longer in sum, or will at their pace, is pruned."""
    tunes: bool = False
    """Whether trials of the search may tune blocks."""

    @classmethod
    def of(
        cls, trial: "optuna.Trial", storage: str, pruner: dict[str, Any] | None, *, seconds: float | None, tunes: bool
    ) -> "TrialHandle":
        """Return the handle of `trial`, whose study is in `storage`."""
        return cls(storage, trial.study.study_name, trial._trial_id, pruner, seconds, tunes)

    def dumps(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def loads(cls, text: str) -> "TrialHandle":
        return cls(**json.loads(text))


Report = Callable[[int, dict[str, float], float], None]
"""Reports an epoch: its number within its stage, its metrics, and the seconds that the epochs after it will take."""


def can_prune(config: Config) -> bool:
    """Whether the objective is a single metric with a value after each epoch."""
    metrics = config.objective.metrics
    return len(metrics) == 1 and (is_per_epoch(metrics[0]) or metrics[0] in RUNNING_BEST)


def epoch_reporter(config: Config) -> Report:
    """Return the function that reports each epoch to the study; it raises PrunedError to end the run."""
    if config.sweep.study is None:
        return lambda number, metrics, seconds_left: None
    handle = TrialHandle.loads(config.sweep.study)
    trial = _open_trial(handle) if handle.pruner and can_prune(config) else None
    objective_so_far = _objective_so_far(config)
    compared_stage = 2 if config.finetune.blocks else None if handle.tunes else 1
    seconds = 0.0

    def report(number: int, metrics: dict[str, float], seconds_left: float) -> None:
        nonlocal seconds
        epoch = f"epoch {number} of stage {metrics['stage']:.0f}"
        if trial is not None:
            value = objective_so_far(metrics)
            if metrics["stage"] == compared_stage and _is_behind(trial, handle.storage, number, value):
                raise PrunedError(f"pruned after {epoch}: other trials were better at this epoch")
        seconds += metrics["time/epoch_seconds"]
        expected = seconds + (seconds_left if number > 1 else 0)  # the first epoch's time is no pace
        if handle.seconds is not None and expected > handle.seconds:
            limit = f"hydra.sweeper.trial_seconds={handle.seconds:g}"
            raise TooSlowError(f"pruned after {epoch}: its epochs take {expected:.0f} seconds ({limit})")

    return report


def _is_behind(trial: "optuna.Trial", url: str, number: int, value: float) -> bool:
    """Report the `value` of an epoch, and return whether the pruner ends the trial; never after the first epoch.

    If the study is unreachable, or another machine presumed the trial dead, the run continues without reporting.
    """
    from optuna.exceptions import UpdateFinishedTrialError

    unreachable: tuple[type[Exception], ...] = (*connection_errors(url), OSError)
    try:
        if number not in trial.storage.get_trial(trial._trial_id).intermediate_values:
            trial.report(value, number)
        return number > 1 and trial.should_prune()
    except UpdateFinishedTrialError:
        return False
    except unreachable as error:
        log.warning("epoch %d was not reported to the study: %s: %s", number, type(error).__name__, error)
        return False


def _open_trial(handle: TrialHandle) -> "optuna.Trial":
    import optuna  # only runs of a search need it

    pruner = instantiate(handle.pruner) if handle.pruner else None
    study = optuna.load_study(study_name=handle.name, storage=open_storage(handle.storage), pruner=pruner)
    return optuna.trial.Trial(study, handle.trial_id)


def _objective_so_far(config: Config) -> Callable[[dict[str, float]], float]:
    """Return a function from each epoch's metrics to the run's objective if it ended there, by `trainer.select`."""
    name = config.objective.metrics[0]
    history = History("best" if name in RUNNING_BEST else config.trainer.select)

    def objective_so_far(metrics: dict[str, float]) -> float:
        history.epochs.append(Epoch(len(history.epochs) + 1, metrics))
        return history.selected.metrics[RUNNING_BEST.get(name, name)]

    return objective_so_far
