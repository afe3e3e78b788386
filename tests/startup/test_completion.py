"""Shell completion of the console command, as the README installs it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_readme import README

BASH = """eval "$(beans-exp -sc install=bash)"
COMP_LINE="$1"; COMP_WORDS=($1); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMP_POINT=${#COMP_LINE}
hydra_bash_completion && printf "%s\\n" "${COMPREPLY[@]}"
"""
FISH = 'beans-exp -sc install=fish | source; complete -C "$argv[1]"'
ZSH = """autoload -Uz compinit bashcompinit && compinit -u -D && bashcompinit
eval "$(beans-exp -sc install=bash)"
[[ ${_comps[beans-exp]} == _bash_complete* ]] || exit 1
words=(${=1}); COMP_LINE="$1" COMP_POINT=${#1} beans-exp -sc query=bash | tr ' ' '\\n'
"""


@pytest.mark.parametrize(
    ("shell", "script"), [(["bash", "-c"], BASH), (["zsh", "-fc"], ZSH), (["fish", "-c"], FISH)], ids=lambda v: v[0]
)
def test_the_console_command_completes(shell: list[str], script: str, tmp_path: Path) -> None:
    if shutil.which(shell[0]) is None:
        pytest.skip(f"{shell[0]} is not installed")
    command = tmp_path / "bin" / "beans-exp"
    command.parent.mkdir()
    command.write_text(f"#!{sys.executable}\nfrom beans_exp.__main__ import main\nmain()\n")
    command.chmod(0o755)
    variables = os.environ | {"PATH": f"{command.parent}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    name = [] if shell[0] == "fish" else ["completion"]
    ended = subprocess.run(
        [*shell, script, *name, "beans-exp reg=l"], env=variables, capture_output=True, text=True, timeout=240
    )
    found = {line.split("\t")[0] for line in ended.stdout.splitlines()}
    assert {"reg=l1", "reg=l2", "reg=l1_l2", "reg=label_smoothing"} <= found, ended.stderr
    assert not any(line.startswith("kernel") for line in found)


def test_the_readme_has_a_line_for_each_shell() -> None:
    for line in ('eval "$(beans-exp -sc install=bash)"', "beans-exp -sc install=fish | source", "bashcompinit"):
        assert line in README
