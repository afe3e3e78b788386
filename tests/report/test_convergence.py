"""How fast runs learn, against cases computed by hand."""

from collections.abc import Sequence

import numpy as np
import pytest

from beans_exp.report.runs.convergence import area, convergence, reached
from beans_exp.report.runs.groups import Curve, FinishedRun, Group


def _run(validation: Sequence[float], seed: int = 0, features: float = 0) -> FinishedRun:
    values = np.array(validation, dtype=np.float32)
    curve = Curve(values, values, np.full(len(values), 10, dtype=np.float32), None)
    return FinishedRun(
        "r", "r", seed, 0, len(values), {"time/features_seconds": features}, curve, None, has_model=False
    )


def test_reaching_a_threshold_by_hand() -> None:
    found = reached(_run([0.5, 0.7, 0.8, 0.6], features=90), 0.7)
    assert (found.epoch, found.seconds, found.held) == (2, 110, False)
    assert reached(_run([0.5, 0.6]), 0.7).epoch == np.inf


def test_the_area_holds_the_last_value_so_that_a_bad_end_does_not_look_fast() -> None:
    assert area(np.array([0.5, 0.9]), 4) == pytest.approx((0.5 + 0.9 + 0.9 + 0.9) / 4)
    assert area(np.array([0.9, 0.9, 0.1]), 10) < area(np.array([0.3, 0.6, 0.8]), 10)


def test_a_run_that_never_reaches_the_threshold_counts_as_infinite() -> None:
    runs = [_run([0.8, 0.8]), _run([0.5, 0.8], seed=1), _run([0.5, 0.5], seed=2)]
    group = Group({}, None, {run.seed: run for run in runs})
    found = convergence(group, 0.75, 2)
    assert found is not None
    assert (found.epochs, found.seconds, found.reached, found.held, found.runs) == (2, 20, 2, 2, 3)
    group.done[1] = _run([0.5, 0.5], seed=1)
    found = convergence(group, 0.75, 2)
    assert found is not None
    assert found.epochs == np.inf


@pytest.mark.parametrize(
    ("epochs", "expected"), [([1, 2, 7, 8], 4.5), ([3, None], np.inf), ([1, 2, 3, None], 2.5), ([None], np.inf)]
)
def test_the_median_of_an_even_number_of_runs_is_the_mean_of_the_middle_two(
    epochs: list[int | None], expected: float
) -> None:
    curves = ([0.5] * (9 if epoch is None else epoch - 1) + [0.5 if epoch is None else 0.8] for epoch in epochs)
    group = Group({}, None, {seed: _run(curve, seed=seed) for seed, curve in enumerate(curves)})
    found = convergence(group, 0.75, 9)
    assert found is not None
    assert found.epochs == expected
