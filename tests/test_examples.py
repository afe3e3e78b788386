"""The example of a base of one's own: its outputs equal the reference, and its commands run."""

import importlib.util
import io
import os
import pickle
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import keras
import numpy as np
import pytest
from hydra import compose, initialize_config_dir

from beans_exp.models import build_model
from beans_exp.models.blocks import find_blocks
from beans_exp.models.build import import_function
from beans_exp.models.cost import multiply_adds
from beans_exp.schema import CONF, Config, check, to_config
from beans_exp.schema.python_source import use_folder

EXAMPLE = CONF.parent / "examples" / "efficientnet_lite0"
BUILD = "efficientnet_lite0.efficientnet_lite0"
WEIGHTS = Path(os.environ.get("EFFICIENTNET_LITE0_WEIGHTS") or "none").resolve()
"""The variable at the start of the tests."""


@pytest.fixture(autouse=True)
def _folder() -> Iterator[None]:
    use_folder(EXAMPLE)
    yield
    use_folder(None)


def _composed(*words: str) -> Config:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return to_config(compose("config", [f"hydra.searchpath=['file://{EXAMPLE}']", *words]))


def _model(weights: str | None = None, **options: object) -> keras.Model:
    return import_function(BUILD)(224, weights=weights, **options)


def test_the_network_has_the_published_size() -> None:
    model = _model()
    assert model.count_params() + 1280 * 1000 + 1000 == 4_694_024
    assert multiply_adds(model) == pytest.approx(0.384e9, rel=1e-3)
    residual = (3, 5, 7, 8, 10, 11, 13, 14, 15)
    assert [block.name for block in find_blocks(model)] == ["stem", *(f"block{n}" for n in residual), "head.relu"]
    assert find_blocks(_model(head=False))[-1].name == "block16.project.bn"


@pytest.mark.skipif(not WEIGHTS.is_file(), reason="EFFICIENTNET_LITE0_WEIGHTS names no weights file")
def test_the_outputs_are_those_of_the_original() -> None:
    down, right = np.mgrid[:224, :224]
    image = np.stack([right * 255 // 223, down * 255 // 223, (right + down) % 256], axis=-1).astype(np.float32)
    pooled = np.asarray(_model(str(WEIGHTS))(image[None])).mean(axis=(1, 2))[0]
    with np.load(WEIGHTS) as arrays:
        logits = pooled @ arrays["classifier.kernel"] + arrays["classifier.bias"]
    np.testing.assert_allclose(logits[:5], [-0.5972, -0.01201, -0.16959, -0.61059, 1.29792], atol=1e-4)
    assert (logits.argmax(), logits.max()) == (818, pytest.approx(6.73333, abs=1e-4))
    assert pooled.mean() == pytest.approx(0.119526, abs=1e-6)
    np.testing.assert_allclose(pooled[:5], [0, 0, 1.205554, 0.014098, 0], atol=1e-5)
    last = np.asarray(_model(str(WEIGHTS), head=False)(image[None])).mean(axis=(1, 2))[0]
    np.testing.assert_allclose(last[:5], [0.900468, 2.080051, -1.885095, 2.66582, 0.221469], atol=1e-4)


def _random_weights(file: Path) -> str:
    model = _model()
    names = {True: ("gamma", "beta", "mean", "variance"), False: ("kernel",)}
    arrays = {
        f"{layer.name}.{name}": value
        for layer in model.layers
        for name, value in zip(names[layer.name.endswith(".bn")], layer.get_weights(), strict=False)
    }
    np.savez(file, **arrays)
    return str(file)


def _commands() -> list[list[str]]:
    blocks = re.findall(r"```sh\n(.*?)```", (EXAMPLE / "README.md").read_text(), flags=re.DOTALL)
    return [line.split("  #")[0].split() for block in blocks for line in block.splitlines()]


def test_the_commands_of_its_page_describe_runs(tmp_path: Path) -> None:
    weights = _random_weights(tmp_path / "random.npz")
    commands = [command for command in _commands() if command[:3] == ["python", "-m", "beans_exp"]]
    assert len(commands) >= 3
    for command in commands:
        given = [word.strip("'") for word in command[5:] if not word.startswith(("-m", "'seed="))]
        assert command[3:5] == ["--config-dir", "examples/efficientnet_lite0"]
        config = check(_composed(*given, *([] if "model.weights=null" in given else [f"model.weights={weights}"])))
        build_model(config, 3)


def test_a_checkpoint_is_converted_without_running_what_it_names(tmp_path: Path) -> None:
    converter = _converter()
    with pytest.raises(pickle.UnpicklingError, match=r"posix.system does not belong into a checkpoint"):
        converter.Reader(io.BytesIO(pickle.dumps(os.system))).load()
    assert converter.renamed("_blocks.6._depthwise_conv.weight") == "block7.depthwise.kernel"
    assert converter.renamed("_bn0.running_var") == "stem.bn.variance"
    assert converter.renamed("_bn0.num_batches_tracked") is None


def _converter() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_weights", EXAMPLE / "make_weights.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclass looks itself up
    spec.loader.exec_module(module)
    return module
