"""Grad-CAM: an example by hand, and every kind of model as beans_exp saves it."""

import keras
import numpy as np
import pytest
from keras import layers

from beans_exp.models import build_model, savable_model
from beans_exp.models.gradcam import gradcam
from beans_exp.schema import Config, DataConfig, ModelConfig

CONFIGS = {
    "lenet": (ModelConfig("lenet"), 44),
    "lenet5": (ModelConfig("lenet5"), 40),
    "googlenet": (ModelConfig("googlenet"), 64),
    "inception": (ModelConfig("inception", weights=None, top_block="mixed1"), 80),
}


def _redness() -> keras.Model:
    """A model in which red is evidence for class 0 and against class 1."""
    inputs = keras.Input((4, 4, 3))
    activations = layers.Conv2D(1, 1, use_bias=False, name="red")(inputs)
    model = keras.Model(inputs, layers.Dense(2, use_bias=False)(layers.GlobalAveragePooling2D()(activations)))
    model.set_weights([np.array([1, 0, 0], dtype=float).reshape(1, 1, 3, 1), np.array([[1.0, -1.0]])])
    return model


def test_the_heat_map_shows_the_evidence() -> None:
    image = np.zeros((4, 4, 3), dtype=np.uint8)
    image[0, 1, 0], image[3, 3, 0], image[2, 2, 1] = 200, 100, 250
    heat = gradcam(_redness(), image)
    assert heat.shape == (4, 4)
    assert heat.dtype == np.float32
    expected = image[..., 0] / 200
    np.testing.assert_allclose(heat, expected, atol=1e-6)


def test_evidence_against_a_class_is_not_shown() -> None:
    image = np.full((4, 4, 3), 100, dtype=np.uint8)
    assert not gradcam(_redness(), image, label=1).any()
    assert gradcam(_redness(), image, label=0).max() == 1


@pytest.mark.parametrize("name", CONFIGS)
def test_every_kind_of_model_has_a_heat_map(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    model, size = CONFIGS[name]
    keras.utils.set_random_seed(1)
    built = savable_model(build_model(Config(model=model, data=DataConfig(image_size=size)), 3))
    file = tmp_path_factory.mktemp("model") / "model.keras"
    built.save(file)
    loaded = keras.saving.load_model(file, compile=False, safe_mode=True)
    image = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    heats = [gradcam(loaded, image, label) for label in (None, 0, 1, 2)]
    for heat in heats:
        assert heat.shape == (size, size)
        assert heat.min() >= 0
        assert heat.max() in (0, 1)
    assert any(heat.any() for heat in heats)
    assert len({heat.tobytes() for heat in heats[1:]}) > 1, "the classes depend on different regions"


def test_an_image_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(5, 5, 3\) does not fit the model, which takes \(4, 4, 3\)"):
        gradcam(_redness(), np.zeros((5, 5, 3), dtype=np.uint8))


def test_a_model_without_spatial_dimensions_is_refused() -> None:
    inputs = keras.Input((1, 1, 3))
    model = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(inputs)), name="point")
    with pytest.raises(ValueError, match="point has no layer with spatial dimensions"):
        gradcam(model, np.zeros((1, 1, 3), dtype=np.uint8))
