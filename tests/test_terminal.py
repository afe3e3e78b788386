"""Output for a person to read: progress bars."""

import pytest

from beans_exp.terminal import progress


@pytest.mark.parametrize("total", [None, 3])
def test_progress_yields_everything_and_leaves_a_line(total: int | None, capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress(iter("abc"), "reading", total)) == ["a", "b", "c"]
    [line] = capsys.readouterr().out.strip().splitlines()
    assert line.startswith("reading") and "3/3" in line
