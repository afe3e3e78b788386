"""The end of a sweep: what jobs could not send is sent, or named."""

from pathlib import Path
from unittest.mock import Mock

import mlflow
import pytest

from beans_exp.startup.console import UNSENT, exit_status
from beans_exp.sweep.open_sweep import OpenSweep
from beans_exp.tracking.message_queue import new_queue
from beans_exp.tracking.store import open_store

FOLDER = Path("outputs/sweeps/5555")


def _sweep(uri: str, run_id: str | None) -> OpenSweep:
    """A sweep whose job has left a message."""
    new_queue(FOLDER / "job", uri, "left", "f", run_id, None).add("tags", {"note": "left"})
    return OpenSweep("5555", uri, None, Mock(patience=0.1), FOLDER)


def test_the_end_of_a_sweep_sends_what_its_jobs_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    run_id = str(mlflow.MlflowClient(uri).create_run(open_store(uri, "left")).info.run_id)
    sweep = _sweep(uri, run_id)
    sweep.send_queued()
    assert not sweep.report_unsent() and capsys.readouterr().out == ""
    assert mlflow.MlflowClient(uri).get_run(run_id).data.tags["note"] == "left"


def test_the_end_of_a_sweep_says_what_is_unsent(capsys: pytest.CaptureFixture[str]) -> None:
    sweep = _sweep("http://127.0.0.1:9", "5" * 32)
    sweep.send_queued()
    assert sweep.report_unsent()
    printed = capsys.readouterr().out
    assert "unsent: 1 updates for http://127.0.0.1:9" in printed
    assert f"python -m beans_exp.sync {FOLDER}" in printed


@pytest.mark.parametrize(
    ("failed", "unsent", "status"), [(False, False, 0), (False, True, UNSENT), (True, True, 1), (True, False, 1)]
)
def test_the_exit_status_is_0_only_if_nothing_failed_and_nothing_is_unsent(
    failed: bool, unsent: bool, status: int
) -> None:
    assert exit_status(failed=failed, unsent=unsent) == status
