"""Commands that run one after another in one process, which imports every library and starts its fork server once."""

import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DRIVER = """
import json, os, sys, traceback
import tests.stores
from beans_exp.__main__ import main
answers = os.fdopen(int(sys.argv[1]), "w", buffering=1)
for line in sys.stdin:
    words, folder, variables = json.loads(line)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    sys.argv = ["python -m beans_exp", *words]
    status = 0
    try:
        main()
    except SystemExit as ended:
        status = ended.code or 0
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    print(status, file=answers)
"""


class Driver:
    """Runs `python -m beans_exp` like the fixture `program`; a command sees the modules that earlier ones imported."""

    def __init__(self, process: "subprocess.Popen[str]", answers: int, folder: Path) -> None:
        self.process = process
        self.answers = answers
        self.folder = folder

    def run(
        self, *words: str, env: dict[str, str] | None = None, timeout: float = 240, folder: Path | None = None
    ) -> "Ended":
        """Run the command in `folder`, by default the current one, with the current variables and `env`."""
        assert self.process.stdin is not None
        starts = {name: (self.folder / name).stat().st_size for name in ("stdout", "stderr")}
        self.process.stdin.write(json.dumps([words, str(folder or Path.cwd()), os.environ | (env or {})]) + "\n")
        self.process.stdin.flush()
        if not select.select([self.answers], [], [], timeout)[0]:
            self.process.kill()
            raise subprocess.TimeoutExpired(words, timeout)
        answer = os.read(self.answers, 100).decode()
        stdout, stderr = (self._output(name, start) for name, start in starts.items())
        assert answer, f"the driver died: {stderr}"
        return subprocess.CompletedProcess(words, int(answer), stdout, stderr)

    def _output(self, name: str, start: int) -> str:
        with (self.folder / name).open("rb") as file:
            file.seek(start)
            return file.read().decode()


Ended = subprocess.CompletedProcess[str]


@contextmanager
def driver(folder: Path) -> Iterator[Driver]:
    """Start a driver whose output goes to files in `folder`."""
    reading, writing = os.pipe()
    with (folder / "stdout").open("ab") as stdout, (folder / "stderr").open("ab") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-c", DRIVER, str(writing)],
            stdin=subprocess.PIPE,
            stdout=stdout,
            stderr=stderr,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            pass_fds=[writing],
        )
    os.close(writing)
    try:
        yield Driver(process, reading, folder)
    finally:
        process.kill()
        process.wait()
        if process.stdin is not None:
            process.stdin.close()
        os.close(reading)
