"""The live table of jobs that run side by side."""

import sys
from pathlib import Path

import pytest

from beans_exp.launcher.live_table import LiveTable
from beans_exp.run_folder import RunProgress, write_progress


def test_a_terminal_shows_running_jobs_as_a_live_table(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    table = LiveTable(shown=True)
    table.start()
    table.add(0, "reg=l2", None)
    table.add(1, "reg=l1", None)
    write_progress(tmp_path, RunProgress(1, 3, 20, {"val/accuracy": 0.75, "train/accuracy": 0.5}, 125))
    table.refresh({0: tmp_path, 1: tmp_path / "missing"})
    table.stop()
    printed = capsys.readouterr().out
    row, *_ = [line.split() for line in printed.splitlines() if "reg=l2" in line and "3/20" in line]
    assert row[1:6] == ["reg=l2", "1", "3/20", "0.750", "0.500"] and "2 min 05 s" in printed
    assert "reg=l1 (starting)" in printed


def test_a_file_gets_a_line_per_epoch(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    table = LiveTable(shown=True)
    table.add(0, "reg=l2", tmp_path / "job.log")
    write_progress(tmp_path, RunProgress(1, 3, 20, {"val/accuracy": 0.75}, 125))
    for _ in range(2):
        table.refresh({0: tmp_path})
    table.remove(0, "ended")
    started, epoch, ended = capsys.readouterr().out.splitlines()
    assert started == f"job 1: started: reg=l2 (output in {tmp_path / 'job.log'})"
    assert epoch == "job 1: stage 1, epoch 3/20, val/accuracy 0.750, 2 min 05 s left"
    assert ended == "job 1: ended"
