"""Functions of the user's own: what they may return, and what is refused before a run is recorded."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from beans_exp.data import Data
from beans_exp.errors import ConfigError, DataError
from beans_exp.models import build_model, savable_model, set_trainable, training_graph
from beans_exp.models.cost import parameters
from beans_exp.models.gradcam import gradcam
from beans_exp.schema import Config, DataConfig, FinetuneConfig, ModelConfig, RegConfig, TrainerConfig
from beans_exp.schema.python_source import use_folder
from beans_exp.training.stages import configure, train
from tests.conftest import SIZE

NETS = """
import keras
from keras import layers

def _images(image_size):
    return keras.Input((image_size, image_size, 3))

def net(image_size, classes, dropout=0.0, aux_weight=0.0):
    images = _images(image_size)
    x = low = layers.Conv2D(4, 5, strides=4, activation="relu")(images)
    x = layers.DepthwiseConv2D(3, strides=2)(x)
    x = layers.SeparableConv2D(4, 3, strides=2)(x)
    x = layers.Dropout(dropout)(layers.Flatten()(x))
    logits = layers.Dense(classes)(layers.Dense(4)(x))
    other = layers.Dense(classes)(layers.GlobalAveragePooling2D()(low))
    return keras.Model(images, [logits, other] if aux_weight else logits)

def dense(image_size, classes):
    return keras.Sequential([_images(image_size), layers.Flatten(), layers.Dense(classes)])

class Subclassed(keras.Model):
    def __init__(self, classes, **more):
        super().__init__(**more)
        self.classes = classes
        self.logits = layers.Dense(classes)
    def call(self, images):
        return self.logits(keras.ops.mean(images, (1, 2)))
    def get_config(self):
        return {**super().get_config(), "classes": self.classes}

class Unsavable(Subclassed):
    def get_config(self):
        raise NotImplementedError("get_config is missing")

def unsavable(image_size, classes):
    return Unsavable(classes)

def subclassed(image_size, classes):
    return Subclassed(classes)

def base(image_size):
    x = images = _images(image_size)
    x = layers.Conv2D(4, 3, strides=2, name="stem_conv")(layers.Rescaling(1 / 255)(x))
    for number in range(3):
        y = layers.Conv2D(4, 3, padding="same", name=f"conv{number}")(x)
        x = layers.Add(name=f"add{number}")([x, layers.BatchNormalization(name=f"norm{number}")(y)])
    return keras.Model(images, x)

def subclassed_base(image_size):
    return Subclassed(4)

def pooled_base(image_size):
    made = base(image_size)
    return keras.Model(made.inputs, layers.GlobalAveragePooling2D()(made.outputs[0]))

def fails(image_size, classes):
    return 1 / 0

def none(image_size, classes):
    return None

def too_many(image_size, classes):
    return net(image_size, classes + 1)

def softmax(image_size, classes):
    images = _images(image_size)
    return keras.Model(images, layers.Dense(classes, activation="softmax")(layers.Flatten()(images)))

def other_input(image_size, classes):
    return net(image_size + 1, classes)

def always_two(image_size, classes):
    return net(image_size, classes, aux_weight=1)
"""


@pytest.fixture(scope="module", autouse=True)
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("conf")
    (folder / "build_nets.py").write_text(NETS)
    (folder / "raising.py").write_text("\nraise OSError('no such leaf')\ndef net(image_size, classes): pass\n")
    use_folder(folder)
    yield
    use_folder(None)


def _config(function: str, **model: object) -> Config:
    described = ModelConfig("own", build=f"build_nets.{function}", **model)  # type: ignore[arg-type]
    data = DataConfig(name="folder", data_dir="images", image_size=SIZE)
    return Config(model=described, data=data, trainer=TrainerConfig(epochs=1, batch_size=4))


WRONG = [
    ("fails", r"it raised ZeroDivisionError: division by zero, line \d+"),
    ("none", "must return an uncompiled keras.Model, not NoneType"),
    ("too_many", r"must return logits \(b, 3\), one for each class, as its first output, not \(b, 4\)"),
    ("softmax", "must return logits, not probabilities: leave out the softmax"),
    ("other_input", rf"must return one input \(b, {SIZE}, {SIZE}, 3\)"),
    ("unsavable", r"must return a model that can be saved \(NotImplementedError: get_config is missing\)"),
    ("always_two", "must return the logits of auxiliary classifiers as further outputs where aux_weight is above 0"),
]


@pytest.mark.parametrize(("function", "message"), WRONG)
def test_what_no_training_can_use_is_refused(function: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"model.build=build_nets.{function}: {message}"):
        build_model(_config(function), 3)


def test_a_module_that_raises_is_named_with_its_line() -> None:
    config = replace(_config("net"), model=ModelConfig("own", build="raising.net"))
    with pytest.raises(ConfigError, match=r"raising.py cannot be imported \(OSError: no such leaf, line 2\)"):
        build_model(config, 3)
    assert "raising" not in sys.modules


@pytest.mark.parametrize("function", ["net", "dense", "subclassed"])
def test_a_whole_model_is_trained_and_saved(function: str, data: Data, tmp_path: Path) -> None:
    config = _config(function)
    configure(config)
    model = build_model(config, 3)
    assert (model.name, model.output.shape, model.output.dtype) == ("own", (None, 3), "float32")
    before = model.get_weights()
    train(model, data, config, lambda epoch: None)
    assert not any(np.array_equal(one, other) for one, other in zip(before, model.get_weights(), strict=True))
    savable_model(model).save(tmp_path / "model.keras")
    classes = {type(layer).__name__: type(layer) for layer in model.layers}
    loaded = keras.saving.load_model(tmp_path / "model.keras", custom_objects=classes, safe_mode=True)
    images = np.asarray(data.test.images, np.float32)
    np.testing.assert_allclose(loaded(images), model(images), atol=1e-5)
    assert gradcam(model, images[0]).shape == (SIZE, SIZE)


def test_penalties_act_on_every_kind_of_convolution_or_else_on_dense_layers() -> None:
    def penalized(function: str) -> dict[str, int]:
        model = build_model(replace(_config(function), reg=RegConfig(l2=0.5)), 3)
        kernels = [variable for variable in model.trainable_variables if variable.regularizer is not None]
        expected = sum(float(0.5 * np.square(kernel.numpy()).sum()) for kernel in kernels)
        assert float(sum(model.losses)) == pytest.approx(expected, rel=1e-4)
        return {layer.name.rsplit("_", 1)[0]: 1 for layer in model.layers if layer.losses}

    assert sorted(penalized("net")) == ["conv2d", "depthwise_conv2d", "separable_conv2d"] or len(penalized("net")) == 3
    assert len(penalized("dense")) == 1


def test_further_outputs_are_auxiliary_classifiers_in_training_only(data: Data) -> None:
    config = replace(_config("net"), reg=RegConfig(aux_weight=0.5))
    configure(config)
    model = build_model(config, 3)
    graph = training_graph(model, config, 0, cached=False)
    assert len(graph.auxiliary) == 1
    fitted = keras.Model(graph.inputs, [graph.logits, *graph.auxiliary])
    assert fitted.count_params() == model.count_params() + 4 * 3 + 3
    metrics = train(model, data, config, lambda epoch: None).selected.metrics
    assert metrics["train/loss"] > 1.2 * metrics["train/cross_entropy"]


@pytest.fixture
def weights(tmp_path: Path) -> str:
    """The weights of `base`, of which the normalizations have other statistics than new ones."""
    keras.utils.set_random_seed(3)
    made = build_model(_config("base", backbone=True), 3).get_layer("base")
    made.set_weights([value + 0.1 for value in made.get_weights()])
    made.save_weights(tmp_path / "own.weights.h5")
    return str(tmp_path / "own.weights.h5")


def test_a_base_of_the_users_own_gets_a_head_blocks_and_stages(weights: str, data: Data) -> None:
    config = replace(_config("base", backbone=True, weights=weights), finetune=FinetuneConfig(blocks=2, epochs=1))
    configure(config)
    model = build_model(config, 3)
    assert [layer.name for layer in model.layers][-3:] == ["pooling", "dense", "logits"]
    set_trainable(model, config, 2)
    trained = {layer.name for layer in model.get_layer("base").layers if layer.trainable and layer.weights}
    assert trained == {"conv1", "norm1", "conv2", "norm2"}
    statistics = model.get_layer("base").get_layer("norm1").moving_mean.numpy()
    history = train(model, data, config, lambda epoch: None)
    assert [epoch.metrics["stage"] for epoch in history.epochs] == [1, 2]
    np.testing.assert_array_equal(statistics, model.get_layer("base").get_layer("norm1").moving_mean.numpy())


def test_a_lower_top_block_leaves_out_what_is_above_it(weights: str) -> None:
    whole, lower = (
        build_model(_config("base", backbone=True, weights=weights, top_block=block), 3) for block in (None, "add0")
    )
    assert parameters(whole)[0] - parameters(lower)[0] == 2 * (4 * 4 * 9 + 4 + 16)
    with pytest.raises(ConfigError, match=r"model\.top_block=conv1: must be one of add0, add1, add2"):
        build_model(_config("base", backbone=True, top_block="conv1"), 3)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("subclassed_base", "must return a functional Keras model: a subclassed one cannot be cut"),
        ("pooled_base", r"must return features \(b, h, w, c\), without a pooling, not \(b, 4\)"),
    ],
)
def test_an_unsuitable_base_is_refused(function: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_model(_config(function, backbone=True), 3)


def test_a_depth_that_a_base_does_not_have_is_refused(weights: str) -> None:
    config = replace(_config("base", backbone=True, weights=weights), finetune=FinetuneConfig(blocks=5))
    with pytest.raises(ConfigError, match=r"finetune\.blocks=5: must be between 0 and 4"):
        build_model(config, 3)


def test_weights_of_another_network_are_refused(weights: str) -> None:
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(3)]).save_weights("other.weights.h5")
    with pytest.raises(DataError, match=r"other\.weights\.h5 does not fit model=own"):
        build_model(_config("base", backbone=True, weights="other.weights.h5"), 3)
