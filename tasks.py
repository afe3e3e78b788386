#!/usr/bin/env python3
"""The project's tasks. Needs only Python 3.11 to 3.13 and creates the environment itself.

    python3 tasks.py demo     install, then a small grid on drawn leaves, offline
    python3 tasks.py check    install, then everything that CI runs: lint, types, layers, test

Others: setup, lint, types, layers, test, fix, lock, test-hydra14. Further words go to the tool
(`python3 tasks.py test -k lenet`).
"""

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = Path(os.environ.get("BEANS_EXP_VENV", ROOT / ".venv"))
PYTHON = VENV / "bin" / "python"
HYDRA14 = ROOT / ".venv-hydra14"
"""The environment of `test-hydra14`."""
COMING = ("hydra-core>=1.4.0rc1,<1.5", "omegaconf>=2.4.0rc1,<2.5")
"""The versions to come; pip warns that the project's own bounds exclude them."""
ACCEPTED = (
    "register_new_resolver",  # here and in the launchers' plugins: hydra-ecosystem/omegaconf#426
    "The version_base parameter is deprecated",  # Hydra 1.3 asks for it: hydra-ecosystem/hydra#3237
    "hydra.utils.instantiate",  # by Hydra, for the classes in `conf/`: hydra.cc/docs/advanced/execution_whitelist
)
"""Warnings, by their first words, that the tests, which turn warnings into errors, accept of these versions."""
DEMO = ["-m", "beans_exp", "-m", "model=lenet", "reg=l1,l2,dropout", "data=synthetic", "trainer=quick"]


def setup(*groups: str) -> None:
    """Create the environment and install the project with the dependency `groups`, unless that is already done."""
    stamp = VENV / f"installed-{'-'.join(groups) or 'plain'}"
    everything = VENV / "installed-dev"
    content = b"".join((ROOT / name).read_bytes() for name in ("pyproject.toml", "constraints.txt"))
    digest = hashlib.sha256(content).hexdigest()
    if any(file.is_file() and file.read_text() == digest for file in (stamp, everything)):
        return
    if not PYTHON.is_file():
        create_environment()
    pip("--upgrade", "pip>=25.1")  # the first pip that reads dependency groups
    words = [word for group in groups for word in ("--group", group)]
    extras = "[ray,slurm,postgres]" if groups else ""
    pip("--constraint", "constraints.txt", "--editable", f".{extras}", *words)
    stamp.write_text(digest)


def create_environment() -> None:
    print(f"creating {VENV} with Python {sys.version.split()[0]}")
    try:
        venv.create(VENV, with_pip=True)
    except subprocess.CalledProcessError:
        sys.exit("Python cannot create a virtual environment. On Debian and Ubuntu: apt install python3-venv")


def pip(*words: str) -> None:
    run("-m", "pip", "install", "--quiet", "--disable-pip-version-check", *words)


def run(*words: str) -> None:
    """Run the environment's Python in the project's folder; exit with its status if it fails."""
    print("$ python", *words, flush=True)
    status = subprocess.run([str(PYTHON), *words], cwd=ROOT).returncode
    if status:
        sys.exit(status)


def demo(*words: str) -> None:
    setup()
    run(*DEMO, *words)
    print(f"\nNext, enter the environment: source {os.path.relpath(VENV)}/bin/activate")


def lint(*words: str) -> None:
    setup("dev")
    run("-m", "ruff", "check", *words)
    run("-m", "ruff", "format", "--check", *words)


def fix(*words: str) -> None:
    setup("dev")
    run("-m", "ruff", "check", "--fix", *words)
    run("-m", "ruff", "format", *words)


def types(*words: str) -> None:
    setup("dev")
    run("-m", "mypy", *words)


def layers(*words: str) -> None:
    setup("dev")
    run("-c", "from importlinter.cli import lint_imports_command; lint_imports_command()", *words)


def test(*words: str) -> None:
    setup("dev")
    run("-m", "pytest", *words)


def check(*words: str) -> None:
    for task in (lint, types, layers):
        task()
    test(*words)


def lock(*words: str) -> None:
    """Update the pins; pinned versions stay unless `--upgrade` or `--upgrade-package NAME` is given."""
    setup("dev")
    run(
        *("-m", "uv", "pip", "compile", "pyproject.toml", "--all-extras", "--group", "dev"),
        *("--universal", "--python-version", "3.11"),
        *("--no-header", "--no-annotate", "--quiet", "--output-file", "constraints.txt", *words),
    )


def test_hydra14(*words: str) -> None:
    """Run the tests on the newest candidate of Hydra 1.4, in an environment of its own; not part of CI."""
    global VENV, PYTHON
    VENV, PYTHON = HYDRA14, HYDRA14 / "bin" / "python"
    setup("dev")
    pip("--pre", "--upgrade", *COMING)
    accepted = [word for start in ACCEPTED for word in ("-W", f"ignore:{start}")]
    run("-m", "pytest", *accepted, *words)


TASKS = {task.__name__: task for task in (demo, check, setup, lint, types, layers, test, fix, lock)}
TASKS["test-hydra14"] = test_hydra14


def main() -> None:
    if not (3, 11) <= sys.version_info < (3, 14):
        sys.exit(f"Python 3.11, 3.12 or 3.13 is required; this is {sys.version.split()[0]}")
    name, *words = sys.argv[1:] or ["help"]
    if name not in TASKS:
        sys.exit(__doc__)
    TASKS[name](*words)


if __name__ == "__main__":
    main()
