"""Every command in README and docs is run; those that train get `data=synthetic trainer=quick` and tiny images."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import tasks
from beans_exp.schema import CONF
from tests.conftest import TINY
from tests.forked import run_forked
from tests.servers import AUTH_COMMAND

ROOT = CONF.parent
README = (ROOT / "README.md").read_text()
PAGES = "\n".join(file.read_text() for file in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))])
BLOCKS = re.findall(r"```sh\n(.*?)```", PAGES, flags=re.DOTALL)
COMMANDS = [line.split("  #")[0].strip() for block in BLOCKS for line in block.splitlines()]
SMALL = [*TINY, "trainer=quick", "data.image_size=80", "trainer.epochs=1", "tracking.save_model=none"]
SEARCH = ["hydra.sweeper.n_trials=1", "confirm.top=0"]
ONE_PROCESS = "hydra/launcher=basic"
"""A process for each tiny job would take most of the time; `sweep/test_grid.py` and the demo have them."""
BY_ANOTHER_TEST = {
    "python -m beans_exp data=folder data.data_dir=leaves": "test_own_data, with a broken photo skipped",
    "python -m beans_exp data=folder data.data_dir=leaves data.on_error=skip": "test_own_data",
    "python -m beans_exp data=folder data.data_dir=leaves data.split=split.csv": "test_own_data",
    "python -m beans_exp data=table data.file=leaves.csv": "test_own_data",
    "python -m beans_exp data=tfds data.dataset=beans:0.1.0": "tests/data/test_tfds_sets.py",
    "python -m beans_exp.report": "tests/report",
    "python -m beans_exp.report --sweep SWEEP_ID --out report": "tests/report",
    "python -m beans_exp.report --margin 3": "tests/report",
    "python -m beans_exp.predict RUN_ID leaf.jpg more_leaves/": "test_predict",
    "python -m beans_exp.predict RUN_ID more_leaves/ --json": "test_predict",
    "python -m beans_exp.predict RUN_ID more_leaves/ --gradcam heat": "test_predict",
    "python -m beans_exp.promote RUN_ID": "test_predict",
    "python -m beans_exp.ui": "test_ui and test_browser",
    "python -m beans_exp.ui SWEEP_ID": "test_ui and test_browser",
    "python -m beans_exp.ui RUN_ID RUN_ID": "test_ui and test_browser",
    "python -m beans_exp model=resnet50 finetune=top2": "models/test_applications",
    "python -m beans_exp model=keras model.arch=MobileNetV2": "models/test_applications",
    "python -m beans_exp.probe --blocks model=resnet50": "test_probe",
    "python -m beans_exp --config-dir my_conf model=leafnet reg=dropout model.options.width=32": "test_user_model",
    "python -m beans_exp.pack runs.zip": "tests/pack",
    "python -m beans_exp.pack runs.zip --sweep SWEEP_ID": "tests/pack",
    "python -m beans_exp.pack runs.zip --models best": "tests/pack",
    "python -m beans_exp.unpack runs.zip": "tests/pack",
    "ray start --head --num-cpus=8": "test_launchers starts the two nodes by Ray's own test cluster",
    "ray start --address=HOST:6379 --num-cpus=8": "test_launchers",
    "RAY_ADDRESS=HOST:6379 python -m beans_exp -m hydra/launcher=ray model=lenet reg=l1,l2,dropout"
    " hydra.launcher.ray.remote.num_cpus=4": "test_launchers",
    "python -m beans_exp -m hydra/launcher=submitit_slurm model=lenet reg=l1,l2,dropout"
    " hydra.launcher.partition=short hydra.launcher.timeout_min=60": "test_launchers",
    "docker compose up --detach --wait": "test_compose starts the same program from the same file",
    "docker compose --profile postgres up --detach --wait mlflow-postgres": "test_compose, too",
    "docker compose up --detach --wait proxy": "test_access starts the same programs from the same files",
    "export MLFLOW_TRACKING_USERNAME=ann MLFLOW_TRACKING_SERVER_CERT_PATH=fullchain.pem": "test_access",
    "python -m beans_exp tracking=server tracking.uri=https://HOST": "test_access",
    AUTH_COMMAND: "test_access",
    "python -m beans_exp.sync outputs": "test_outbox",
    "python -m beans_exp.sync": "test_outbox",
    "python -m beans_exp.status": "test_status",
    "python -m beans_exp.status --tracking-uri https://HOST --watch 30": "test_status",
    'eval "$(beans-exp -sc install=bash)"': "tests/startup/test_completion.py",
    "source .venv/bin/activate": "the shell's own",
    "python3 tasks.py demo": "test_the_demo below",
    "python3 tasks.py check": "what runs this test",
    "python3 tasks.py fix": "a part of check that changes files",
    "python3 tasks.py test -k schema": "a part of check",
}


OURS = [
    command for command in COMMANDS if re.match(r"python -m beans_exp( |$)", command) and command not in BY_ANOTHER_TEST
]


CHUNKS = [OURS[start::4] for start in range(4)]


def test_every_command_is_run_by_some_test() -> None:
    assert OURS
    assert set(COMMANDS) - set(OURS) == set(BY_ANOTHER_TEST)


@pytest.mark.parametrize("commands", CHUNKS, ids=[f"{chunk[0][:60]}…" for chunk in CHUNKS])
def test_documented_commands_succeed(commands: list[str], tmp_path: Path, weights: str) -> None:
    """Several per process and store, each in its own experiment: TensorFlow is imported and a store created once."""
    given = json.dumps([_small(command, f"command-{number}") for number, command in enumerate(commands)])
    variables = {"BEANS_EXP_INCEPTION_WEIGHTS": weights}
    ended = run_forked(given, folder=tmp_path, env=variables, module="tests.commands", timeout=400)
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    assert "Traceback" not in ended.stderr


def _small(command: str, experiment: str) -> list[str]:
    words = shlex.split(command)[3:]
    if "--help" not in words and "--cfg" not in words:
        words += [*SMALL, f"tracking.experiment={experiment}"]
    if not any(word.startswith(("hydra.launcher.", "hydra/launcher=")) for word in words):
        words.append(ONE_PROCESS)
    if "optuna" in command or "search_" in command:
        words += SEARCH
    return words


def test_the_demo_ends_with_a_table_and_the_command_for_the_browser(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, *tasks.DEMO, *SMALL], cwd=tmp_path, capture_output=True, text=True, timeout=240
    )
    assert ended.returncode == 0, ended.stderr
    for word in ("reg=l1", "reg=l2", "reg=dropout", "finished", "python -m beans_exp.ui "):
        assert word in ended.stdout


@pytest.mark.parametrize("picture", re.findall(r"!\[.*?\]\((.*?)\)", README))
def test_every_picture_exists(picture: str) -> None:
    assert (ROOT / picture).is_file()


def test_the_table_lists_every_option() -> None:
    for group in ("model", "reg", "kernel", "finetune", "data", "trainer", "tracking", "study", "experiment"):
        row = "".join(line for line in README.splitlines() if line.startswith(f"| `{group}` |"))
        for file in (CONF / group).glob("*.yaml"):
            assert f"`{file.stem}`" in row
