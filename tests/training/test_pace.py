"""The estimated time of the rest of a run."""

from beans_exp.training.history import Epoch, Stage
from beans_exp.training.pace import Pace


def _epoch(step: int, stage: int, seconds: float) -> Epoch:
    return Epoch(step, {"stage": stage, "time/epoch_seconds": seconds})


def test_the_fastest_epoch_of_the_stage_decides_the_time_left() -> None:
    pace = Pace([Stage(1, 3, 1e-3), Stage(2, 2, 1e-5)])
    pace.add(_epoch(1, 1, 10.0))
    assert (pace.stage, pace.stage_epoch, pace.total_epochs, pace.seconds_left) == (1, 1, 5, 40.0)
    pace.add(_epoch(2, 1, 4.0))
    assert pace.seconds_left == 3 * 4.0


def test_a_later_stage_starts_counting_again() -> None:
    pace = Pace([Stage(1, 3, 1e-3), Stage(2, 2, 1e-5)])
    pace.add(_epoch(1, 1, 1.0))  # patience ended the first stage early
    pace.add(_epoch(2, 2, 20.0))
    assert (pace.stage, pace.stage_epoch, pace.seconds_left) == (2, 1, 20.0)
