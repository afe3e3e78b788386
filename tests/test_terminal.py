"""Output for a person to read: progress bars, and names shown as they are."""

import pytest

from beans_exp.terminal import open_console, progress


@pytest.mark.parametrize("total", [None, 3])
def test_progress_yields_everything_and_leaves_a_line(total: int | None, capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress(iter("abc"), "reading", total)) == ["a", "b", "c"]
    [line] = capsys.readouterr().out.strip().splitlines()
    assert line.startswith("reading") and "3/3" in line


@pytest.mark.parametrize("name", ["reg.augment=[flip]", "[/x]", "[red]leaf", ":leaf:"])
def test_a_name_is_shown_as_it_is(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    open_console().print(name)
    assert list(progress([1], name)) == [1]
    assert capsys.readouterr().out.count(name) == 2
