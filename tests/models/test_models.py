"""Architectures: published and reported parameter counts, and the layers that each regularizer acts on."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from beans_exp.models import build_model
from beans_exp.models.cost import model_metrics, multiply_adds, parameters
from beans_exp.schema import Config, DataConfig, KernelConfig, ModelConfig, RegConfig

KERNELS = [
    (KernelConfig(), 26_985_195),
    (KernelConfig(size=3), 30_264_651),
    (KernelConfig(size=7), 24_676_011),
    (KernelConfig(filters=[3, 8, 60]), 13_480_099),
    (KernelConfig(filters=[12, 32, 240]), 54_070_987),
    # 3->4->6, 6->10->16, 16->44->120 in 3x3, then the same two Dense layers
    (KernelConfig(factorized=True), (112 + 222) + (550 + 1456) + (6380 + 47640) + 26_934_050 + 153),
]
TINY = Config(data=DataConfig(name="folder", data_dir="images", image_size=32))
CONVOLUTIONS = ["conv1", "conv2", "conv3"]


@pytest.mark.parametrize(("kernel", "count"), KERNELS)
def test_lenet_has_the_parameters_of_the_report(kernel: KernelConfig, count: int) -> None:
    model = build_model(Config(kernel=kernel), 3)
    assert parameters(model) == (count, count)
    assert model.output_shape == (None, 3)


def test_lenet_has_the_layers_of_the_report() -> None:
    model = build_model(Config(), 3)
    shapes = {layer.name: layer.output.shape[1:] for layer in model.layers}
    assert shapes["conv1"] == (295, 295, 6)
    assert shapes["pool1"] == (147, 147, 6)
    assert shapes["conv2"] == (143, 143, 16)
    assert shapes["pool2"] == (71, 71, 16)
    assert shapes["conv3"] == (67, 67, 120)
    assert shapes["flatten"] == (538_680,)
    assert shapes["dense"] == (50,)


@pytest.mark.parametrize(("classes", "count"), [(10, 61_706), (3, 61_111)])
def test_lenet5_has_the_published_parameters(classes: int, count: int) -> None:
    model = build_model(replace(TINY, model=ModelConfig(name="lenet5")), classes)
    assert parameters(model) == (count, count)


@pytest.mark.parametrize("name", ["lenet", "lenet5"])
@pytest.mark.parametrize(
    ("reg", "penalty"),
    [
        (RegConfig(), None),
        (RegConfig(l1=0.01), {"l1": 0.01}),
        (RegConfig(l2=0.02), {"l2": 0.02}),
        (RegConfig(l1=0.01, l2=0.02), {"l1": 0.01, "l2": 0.02}),
        (RegConfig(dropout=0.2), None),
    ],
)
def test_only_convolution_kernels_are_penalized(name: str, reg: RegConfig, penalty: dict[str, float] | None) -> None:
    model = build_model(replace(TINY, model=ModelConfig(name=name), reg=reg), 3)
    for layer in model.layers:
        found = getattr(layer, "kernel_regularizer", None)
        expected = penalty if layer.name in CONVOLUTIONS else None
        values = {key: float(value) for key, value in found.get_config().items()} if found else None
        assert values == (pytest.approx(expected) if expected else None), layer.name
        assert getattr(layer, "bias_regularizer", None) is None


def test_factorized_convolutions_are_penalized() -> None:
    config = replace(TINY, kernel=KernelConfig(factorized=True), reg=RegConfig(l2=0.01))
    model = build_model(config, 3)
    penalized = [layer.name for layer in model.layers if getattr(layer, "kernel_regularizer", None)]
    assert penalized == ["conv1a", "conv1b", "conv2a", "conv2b", "conv3a", "conv3b"]
    assert all(layer.kernel.shape[:2] == (3, 3) for layer in model.layers if layer.name in penalized)


@pytest.mark.parametrize("name", ["lenet", "lenet5"])
def test_dropout_precedes_each_dense_layer(name: str) -> None:
    model = build_model(replace(TINY, model=ModelConfig(name=name), reg=RegConfig(dropout=0.2)), 3)
    order = [type(layer).__name__ for layer in model.layers]
    assert order[-4:] == ["Dropout", "Dense", "Dropout", "Dense"]
    assert {layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)} == {0.2}
    assert order.count("Dropout") == 2


@pytest.mark.parametrize("name", ["lenet", "lenet5"])
def test_models_rescale_raw_images(name: str) -> None:
    model = build_model(replace(TINY, model=ModelConfig(name=name)), 3)
    rescaling = model.get_layer("rescaling")
    white = rescaling(np.full((1, 32, 32, 3), 255, np.float32))
    assert float(keras.ops.max(white)) == pytest.approx(1)


def test_costs_are_counted_from_the_layers() -> None:
    model = build_model(Config(), 3)
    expected = 295**2 * 25 * 3 * 6 + 143**2 * 25 * 6 * 16 + 67**2 * 25 * 16 * 120 + 538_680 * 50 + 50 * 3
    assert multiply_adds(model) == expected
    assert model_metrics(model)["model/size_mb"] == pytest.approx(26_985_195 * 4 / 1e6)
