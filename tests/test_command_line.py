"""Help, composition and errors before anything is trained, without TensorFlow."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from beans_exp.schema import CONF
from tests.conftest import Program


@pytest.fixture
def without_tensorflow(tmp_path: Path) -> dict[str, str]:
    """Variables under which an import of TensorFlow, Keras or MLflow fails."""
    for name in ("tensorflow", "keras", "mlflow"):
        (tmp_path / "poison").mkdir(exist_ok=True)
        (tmp_path / "poison" / f"{name}.py").write_text(f"raise ImportError('{name} was imported too early')")
    return {"PYTHONPATH": str(tmp_path / "poison")}


def _left_by(folder: Path) -> Iterator[str]:
    return (item.name for item in folder.iterdir() if item.name not in ("poison", "cache"))


def test_help_describes_every_option(fresh_program: Program, without_tensorflow: dict[str, str]) -> None:
    printed = fresh_program("--help", env=without_tensorflow)
    assert printed.returncode == 0, printed.stderr
    for file in (
        file for file in CONF.glob("[a-z]*/*.yaml") if file.parent.name != "report"
    ):  # read by the report only
        line = next(line for line in printed.stdout.splitlines() if line.split()[:1] == [file.stem])
        assert len(line.split()) > 2


def test_cfg_job_shows_the_composed_configuration(fresh_program: Program, without_tensorflow: dict[str, str]) -> None:
    printed = fresh_program("--cfg", "job", "reg=l2", env=without_tensorflow)
    assert printed.returncode == 0, printed.stderr
    assert "l2: 0.01" in printed.stdout


WRONG = [
    (["+typo=1"], "typo is not a key"),
    (["~reg"], "reg was removed"),
    (["reg=null"], "reg=null: must be one of"),
    (["seed=abc"], "'abc' of type 'str' could not be converted to Integer"),
    (["reg=l3"], "Could not find 'reg/l3'"),
    (["typo=1"], "typo is not a key"),
    (["kernel=[k3,k5]"], "kernel=[k3,k5]: must be one option of kernel"),
    (["reg.l3=1"], "reg.l3 is not a key of the configuration; known: name, l1"),
    (["reg.dropout=1.5"], "reg.dropout=1.5: must be"),
    (["finetune=top2"], "finetune.blocks=2 has no effect"),
    (["objective.name=val/acc"], "did you mean val/accuracy?"),
    (["model=inception", "model.weights=nowhere.h5", "data=synthetic"], "nowhere.h5 cannot be read"),
    (["data=folder", "data.data_dir=nowhere"], "nowhere/train is missing"),
    (["reg.l1=${nope}"], "'nope' not found"),
    (["hydra.job.chdir=true", "data=synthetic"], "hydra.job.chdir=true: must be false"),
    (["hydra.run.dir=/proc/nope", "data=synthetic"], "the output folder /proc/nope cannot be created"),
    (["study=null", "reg.l1=-1"], "reg.l1=-1.0: must be"),
]


@pytest.mark.parametrize(("words", "message"), WRONG, ids=lambda value: value if isinstance(value, str) else "")
def test_an_invalid_option_is_one_message(
    words: list[str], message: str, fresh_program: Program, tmp_path: Path, without_tensorflow: dict[str, str]
) -> None:
    ended = fresh_program(*words, env=without_tensorflow)
    assert ended.returncode != 0
    assert message in ended.stderr
    _require_no_traces(ended, tmp_path)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model=lenet", "finetune=none,top2,top3"], "no point of the grid uses it"),
        (["reg=l1,l3"], "Could not find 'reg/l3'"),
        (["hydra/sweeper=basic", "reg=l1,l2"], "hydra/sweeper=basic: must be grid"),
        (["reg.dropout=0.1,1.5"], "reg.dropout=1.5: must be"),
        (["experiment=regularization,kernel_size"], "experiment=regularization: must be the only option of its group"),
        (["reg.l2=interval(0,1)"], "reg.l2=interval(0,1): must be values or a range in a grid. To search"),
        (["+hydra.sweeper.n_trials=3", "reg=l1,l2"], "hydra.sweeper.n_trials: must be left out in a grid"),
        (["hydra.sweep.subdir=same", "seed=1,2"], "hydra.sweep.subdir=same: must be a name with ${sweep.fingerprint}"),
        (["kernel.size=3,200"], "kernel.size=200"),
        (["reg=l1,null"], "reg=l1,null: must be one of"),
        (["reg=glob(zz*)"], "the grid is empty"),
        (["features.blocks=[1]", "reg=l1,l2"], "set by the sweeper"),
        (["hydra.sweep.dir=/proc/nope", "reg=l1,l2"], "the output folder /proc/nope cannot be written"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_invalid_point_stops_the_grid_before_anything_runs(
    words: list[str], message: str, program: Program, tmp_path: Path
) -> None:
    ended = program("-m", "data=synthetic", *words)
    assert ended.returncode != 0
    assert message in ended.stderr
    _require_no_traces(ended, tmp_path)


def _require_no_traces(ended: subprocess.CompletedProcess[str], folder: Path) -> None:
    assert "Traceback" not in ended.stdout + ended.stderr
    assert list(_left_by(folder)) == []


@pytest.mark.parametrize(
    ("experiment", "points"),
    [("study", (12, 12)), ("two_phases", (4, 4)), ("auxiliary", (4, 4)), ("pretraining", (8, 4))],
)
def test_an_experiment_is_planned_as_distinct_runs(
    experiment: str, points: tuple[int, int], program: Program, tmp_path: Path
) -> None:
    (tmp_path / "base.weights.h5").write_bytes(b"weights")
    words = [f"experiment={experiment}", "plan=true", "data=synthetic", "data.image_size=299"]
    printed = program(*words, env={"BEANS_EXP_INCEPTION_WEIGHTS": "base.weights.h5"})
    assert printed.returncode == 0, printed.stderr
    assert f"{points[0]} requested, {points[1]} distinct" in printed.stdout


def test_regularizer_is_an_alias_of_reg(program: Program) -> None:
    words = ["-m", "data=synthetic", "plan=true", "regularizer=l1,l2", "regularizer.l2=0.1"]
    printed = program(*words)
    assert printed.returncode == 0, printed.stderr
    assert "2 requested, 2 distinct" in printed.stdout
    single = program("--cfg", "job", "regularizer=l2", "regularizer.l2=0.125")
    assert "l2: 0.125" in single.stdout


def test_a_grid_can_be_planned_without_training(program: Program) -> None:
    words = ["-m", "data=synthetic", "plan=true", "model=lenet,lenet5", "kernel=k5,k3", "reg=none,l2"]
    printed = program(*words)
    assert printed.returncode == 0, printed.stderr
    assert "8 requested, 6 distinct" in printed.stdout
    assert "kernel.size=3 has no effect: model=lenet5 does not take kernel_size" in printed.stdout
    assert printed.stdout.count("reg=l2") == 3


COMMANDS = ("report", "predict", "promote", "status", "sync", "pack", "unpack", "ui")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_shows_its_help(name: str, without_tensorflow: dict[str, str]) -> None:
    command = [sys.executable, "-m", f"beans_exp.{name}", "--help"]
    printed = subprocess.run(command, env=os.environ | without_tensorflow, capture_output=True, text=True, timeout=120)
    assert printed.returncode == 0, printed.stderr
    assert printed.stdout.startswith(f"usage: python -m beans_exp.{name}")
