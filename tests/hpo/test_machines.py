"""One search on several machines: see `benchmarks/machines.py`, whose small form this is."""

from pathlib import Path

from benchmarks.machines import share


def test_two_machines_share_a_search_of_which_one_is_killed(tmp_path: Path) -> None:
    found = share(tmp_path, workers=2, trials=3, kill_after=15)
    assert found.problems == [], (tmp_path / "machine-1" / "log").read_text()
    assert found.statuses[1] == 0
