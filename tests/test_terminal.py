"""Output for a person to read: progress bars, names shown as they are, and streams that nobody reads any more."""

import os
import subprocess
import sys

import pytest

from beans_exp.terminal import LastingStream, open_console, progress


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


def test_what_nobody_reads_costs_nothing() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", buffering=1) as stream:
        lasting = LastingStream(stream)
        for _ in range(3):
            assert lasting.write("line\n") == 5
            lasting.flush()
        os.write(writing, b"what a library in C++ writes")


def test_a_full_disk_costs_the_lines_that_do_not_fit() -> None:
    with open("/dev/full", "w", buffering=1) as stream:  # noqa: PTH123
        lasting = LastingStream(stream)
        assert lasting.write("line\n") == 5
        lasting.flush()
        lasting.close_quietly()


@pytest.mark.parametrize("redirection", ["| true", "> /dev/full", ">&-"])
def test_a_program_ends_well_whoever_reads_its_output(redirection: str) -> None:
    code = "from beans_exp.terminal import *; keep_output_open(); [print(number) for number in range(99999)]"
    command = f"set -o pipefail; {sys.executable} -c '{code}' {redirection}"
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
