"""A model of the user's own, from its two files to its predictions, and no file of the package knows a model's name."""

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import beans_exp
from beans_exp.schema import CONF
from tests.conftest import TINY

PACKAGE = Path(beans_exp.__file__).parent
DESCRIPTION = "# a small network of my own\nname: leafnet\nbuild: my_nets.leafnet\n"
CODE = """
import keras
from keras import layers

class Scale(layers.Layer):
    def call(self, x):
        return 2 * x

def leafnet(image_size: int, classes: int, *, dropout: float = 0.0, width: int = 16) -> keras.Model:
    images = keras.Input((image_size, image_size, 3))
    x = layers.Rescaling(1 / 255)(images)
    x = layers.Conv2D(width, 3, strides=2, activation="relu")(x)
    x = layers.GlobalAveragePooling2D()(Scale()(x))
    x = layers.Dropout(dropout)(x)
    return keras.Model(images, layers.Dense(classes)(x))
"""


def _installed(folder: Path) -> Path:
    """The package as a wheel installs it, with `conf/` inside."""
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE, folder / "beans_exp", ignore=ignore)
    shutil.copytree(CONF, folder / "beans_exp" / "conf", dirs_exist_ok=True)
    shutil.copytree(PACKAGE.parent / "hydra_plugins", folder / "hydra_plugins", ignore=ignore)
    return folder


def _run(module: str, *words: str) -> subprocess.CompletedProcess[str]:
    variables = os.environ | {"PYTHONPATH": str(_installed_folder())}
    command = [sys.executable, "-m", module, *words]
    return subprocess.run(command, capture_output=True, text=True, env=variables, timeout=300)


def _installed_folder() -> Path:
    folder = Path("site").resolve()
    return folder if folder.is_dir() else _installed(folder)


def test_two_files_are_enough_for_a_model_in_a_grid_a_prediction_and_a_report() -> None:
    Path("my_conf/model").mkdir(parents=True)
    Path("my_conf/model/leafnet.yaml").write_text(DESCRIPTION)
    Path("my_conf/my_nets.py").write_text(CODE)
    grid = ["-m", "--config-dir", "my_conf", "model=leafnet", "model.options.width=4,32", "reg=dropout"]
    trained = _run("beans_exp", *grid, *TINY, "trainer.epochs=1", "trainer.batch_size=8")
    assert trained.returncode == 0, trained.stdout + trained.stderr
    assert "2 requested, 2 distinct" in trained.stdout
    run = trained.stdout.split("run ")[1].split(":")[0]
    Path("leaf.png").write_bytes(_picture())
    refused = _run("beans_exp.predict", run, "leaf.png")
    assert refused.returncode == 1
    assert "its class Scale is not one of Keras'" in refused.stderr and "--config-dir DIR" in refused.stderr
    predicted = _run("beans_exp.predict", run, "leaf.png", "--config-dir", "my_conf", "--json", "--gradcam", "heat")
    assert predicted.returncode == 0, predicted.stderr
    assert sum(json.loads(predicted.stdout)["probabilities"].values()) > 0.99
    reported = _run("beans_exp.report", "--config-dir", "my_conf")
    assert reported.returncode == 0, reported.stderr
    page = Path("report/report.html").read_text()
    assert "leafnet model.options.width=4" in page and "Grad-CAM" in page


def _picture() -> bytes:
    from io import BytesIO

    from PIL import Image

    with BytesIO() as stream:
        Image.new("RGB", (40, 40), (30, 140, 40)).save(stream, "png")
        return stream.getvalue()


NAMES = {file.stem for file in (CONF / "model").glob("*.yaml")} - {"keras"}  # also the name of the library


def _names(node: ast.AST) -> set[str]:
    return {each.value for each in ast.walk(node) if isinstance(each, ast.Constant) and each.value in NAMES}


def test_no_module_outside_of_models_compares_the_name_of_a_model() -> None:
    files = [file for file in PACKAGE.rglob("*.py") if "models" not in file.relative_to(PACKAGE).parts]
    assert len(files) > 150
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Compare | ast.Subscript | ast.match_case):
                assert not _names(node), f"{file}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Dict):
                assert not any(_names(key) for key in node.keys if key), f"{file}:{node.lineno}"
