"""The parent run of a sweep: the outcome of each job, and the runs that it closes."""

from itertools import count
from pathlib import Path

import pytest

from beans_exp.tracking.parent_run import ParentRun, open_parent
from beans_exp.tracking.store import open_store

pytestmark = pytest.mark.xdist_group("parent run")  # one store for all

numbers = count()


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"


@pytest.fixture
def parent(uri: str) -> ParentRun:
    """A new parent run, in an experiment of its own."""
    experiment = f"outcomes {next(numbers)}"
    return open_parent(uri, experiment, open_store(uri, experiment), "sweep", "name", Path())


def _add_run(parent: ParentRun, status: str, before: bool) -> str:
    """Add a run with the fingerprint `mark` that ended with `status`, `before` or after the parent was opened."""
    started = (
        int(parent.opened) + (-60_000 if before else 60_000) + len(parent.client.search_runs([parent.experiment_id]))
    )
    tags = {"beans.fingerprint": "mark", "beans.status": status, "beans.sweep": parent.sweep_id}
    run_id = parent.client.create_run(parent.experiment_id, start_time=started, tags=tags).info.run_id
    ended = {"finished": "FINISHED", "killed": "KILLED", "pruned": "KILLED"}.get(status, "FAILED")
    parent.client.set_terminated(run_id, ended, end_time=started + 1)
    return run_id


@pytest.mark.parametrize(
    ("runs", "completed", "status", "trained"),
    [
        ([("finished", False)], [True], "finished", True),
        ([("finished", True)], [True], "finished", False),
        ([("finished", True), ("killed", True)], [True], "finished", False),
        ([("finished", True)], [False], "failed", False),
        ([("finished", True), ("diverged", False)], [False], "diverged", True),
        ([("finished", True)], [], "not run", False),
        ([("pruned", True)], [False], "pruned", False),
        ([], [False], "failed", False),
    ],
)
def test_an_outcome_is_the_result_of_this_command(
    runs: list[tuple[str, bool]], completed: list[bool], status: str, trained: bool, parent: ParentRun
) -> None:
    ids = {run: _add_run(parent, *run) for run in runs}
    (outcome,) = parent.outcomes(["mark"], completed)
    assert (outcome.status, outcome.trained) == (status, trained)
    if outcome.run_id:
        assert outcome.run_id == ids[(status, not trained)]


@pytest.mark.parametrize(
    ("kind", "before", "has_cause"), [("timeout", False, True), ("timeout", True, False), ("killed", False, False)]
)
def test_a_run_that_timed_out_gets_the_cause(kind: str, before: bool, has_cause: bool, parent: ParentRun) -> None:
    run_id = _add_run(parent, "killed", before)
    parent.close_run("mark", kind, "exceeded hydra.launcher.timeout=8 seconds")
    run = parent.client.get_run(run_id)
    assert run.data.tags["beans.status"] == "killed"
    assert ("exceeded" in run.data.tags.get("beans.cause", "")) == has_cause
