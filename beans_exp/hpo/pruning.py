"""A run's side of a search: it reports its objective to the study after each epoch, and ends when it is pruned.

What is judged are the epochs of a run's last stage, counted from that stage's first one, which shows the learning rate,
not where it leads, and is reported alone. In a search that tunes a pre-trained base, a run that trains the head alone
is not judged: its epochs are of another kind, and cost next to nothing. The study is reached through its storage alone,
so that any launcher will do, on any machine.
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
"""Metrics of the run that an epoch has a value of so far."""


@dataclass(frozen=True)
class TrialHandle:
    """What a job must know of its study; handed over as text in `sweep.study`."""

    storage: str
    name: str
    trial_id: int
    pruner: dict[str, Any] | None
    """A class path under `_target_`, and its arguments; None: nothing is pruned."""
    seconds: float | None
    """A trial whose epochs take longer in sum, or will at their pace, is pruned."""
    tunes: bool = False
    """Whether trials of the search tune blocks."""

    def dumps(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def loads(cls, text: str) -> "TrialHandle":
        return cls(**json.loads(text))


Report = Callable[[int, dict[str, float], float], None]
"""Hears of an epoch: its number within its stage, its metrics, and the seconds that the epochs after it will take."""


def can_prune(config: Config) -> bool:
    """Whether the objective is one, and has a value after each epoch."""
    metrics = config.objective.metrics
    return len(metrics) == 1 and (is_per_epoch(metrics[0]) or metrics[0] in RUNNING_BEST)


def epoch_reporter(config: Config) -> Report:
    """Return what tells the study of an epoch, and raises PrunedError where it is the last."""
    if config.sweep.study is None:
        return lambda step, metrics, left: None
    study = TrialHandle.loads(config.sweep.study)
    trial = _open_trial(study) if study.pruner and can_prune(config) else None
    so_far = _so_far(config)
    judged = 2 if config.finetune.blocks else None if study.tunes else 1
    seconds = 0.0

    def report(number: int, metrics: dict[str, float], left: float) -> None:
        nonlocal seconds
        where = f"epoch {number} of stage {metrics['stage']:.0f}"
        if trial is not None:
            value = so_far(metrics)
            if metrics["stage"] == judged and _is_behind(trial, study.storage, number, value):
                raise PrunedError(f"pruned after {where}: trials of its age do better")
        seconds += metrics["time/epoch_seconds"]
        expected = seconds + (left if number > 1 else 0)  # the first one's time shows no pace
        if study.seconds is not None and expected > study.seconds:
            limit = f"hydra.sweeper.trial_seconds={study.seconds:g}"
            raise TooSlowError(f"pruned after {where}: its epochs take {expected:.0f} seconds ({limit})")

    return report


def _is_behind(trial: "optuna.Trial", url: str, number: int, value: float) -> bool:
    """Report the `value` of an epoch, and return whether the pruner ends the trial; the first one ends none.

    A study that is away, or another machine that took the trial for dead, costs the run nothing but this.
    """
    from optuna.exceptions import UpdateFinishedTrialError

    away: tuple[type[Exception], ...] = (*connection_errors(url), OSError)
    try:
        if number not in trial.storage.get_trial(trial._trial_id).intermediate_values:
            trial.report(value, number)
        return number > 1 and trial.should_prune()
    except UpdateFinishedTrialError:
        return False
    except away as error:
        log.warning("epoch %d was not reported to the study: %s: %s", number, type(error).__name__, error)
        return False


def _open_trial(study: TrialHandle) -> "optuna.Trial":
    import optuna  # by the runs of a search alone

    pruner = instantiate(study.pruner) if study.pruner else None
    opened = optuna.load_study(study_name=study.name, storage=open_storage(study.storage), pruner=pruner)
    return optuna.trial.Trial(opened, study.trial_id)


def _so_far(config: Config) -> Callable[[dict[str, float]], float]:
    """What is reported of an epoch: the objective of the run if it ended there, by `trainer.select`."""
    name = config.objective.metrics[0]
    chosen = History("best" if name in RUNNING_BEST else config.trainer.select)

    def so_far(metrics: dict[str, float]) -> float:
        chosen.epochs.append(Epoch(len(chosen.epochs) + 1, metrics))
        return chosen.selected.metrics[RUNNING_BEST.get(name, name)]

    return so_far
