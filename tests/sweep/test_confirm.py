"""The confirmation of a search: which trials are confirmed, and which value belongs to which seed."""

from hydra.core.utils import JobReturn, JobStatus
from optuna.trial import create_trial

from beans_exp.hpo.trial_attrs import FINGERPRINT
from beans_exp.schema import Config
from beans_exp.sweep.confirm import best_trials, run_points
from beans_exp.sweep.point import Point


class _Reversed:
    """Jobs that end in the reverse order of their start, with the seed as their objective."""

    has_room = True

    def __init__(self) -> None:
        self.started: list[Point] = []

    def reuse(self, point: Point) -> None:
        return None

    def start(self, point: Point) -> int:
        self.started.append(point)
        return len(self.started) - 1

    def wait(self) -> list[tuple[int, JobReturn]]:
        results = [JobReturn(status=JobStatus.COMPLETED) for _ in self.started]
        for result, point in zip(results, self.started, strict=True):
            result.return_value = float(point.config.seed)
        return list(enumerate(results))[::-1]


def test_a_value_belongs_to_its_seed_in_whatever_order_jobs_end() -> None:
    points = [Point([], Config(seed=seed), f"mark{seed}", [], precision_was_auto=False) for seed in range(3)]
    assert run_points(_Reversed(), points) == {"mark0": 0.0, "mark1": 1.0, "mark2": 2.0}  # type: ignore[arg-type]


def test_of_equal_trials_only_the_first_is_confirmed() -> None:
    values = {"a": 0.5, "b": 0.9, "c": 0.7}
    trials = [create_trial(value=values[mark], user_attrs={FINGERPRINT: mark}) for mark in "abbc"]
    assert [trials.index(trial) for trial in best_trials(trials, maximize=True, count=2)] == [1, 3]
    assert [trials.index(trial) for trial in best_trials(trials, maximize=False, count=1)] == [0]
