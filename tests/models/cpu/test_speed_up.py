"""`models.cpu` is optional: without its one call in `models.inception`, all numbers stay the same up to rounding."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from beans_exp.models import build_model, set_trainable
from beans_exp.schema import Config, DataConfig, ModelConfig
from beans_exp.training.stages import configure
from tests.conftest import SIZE
from tests.shared_models import configured_model


def _logits_and_gradients(model: keras.Model) -> list[np.ndarray]:
    images = tf.constant(np.random.default_rng(0).uniform(0, 255, (4, SIZE, SIZE, 3)), tf.float32)
    with tf.GradientTape() as tape:
        logits = model(images, training=True)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(tf.constant([0, 1, 2, 0]), logits)
    gradients = tape.gradient(loss, model.trainable_variables)
    return [logits.numpy(), *(gradient.numpy() for gradient in gradients)]


@pytest.mark.parametrize("weights_file", [True, False], ids=["pretrained", "from scratch"])
def test_logits_and_gradients_are_equal_without_speed_up(
    weights_file: bool, weights: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Config(
        model=ModelConfig("inception", weights if weights_file else None, "mixed0"),
        data=DataConfig(name="folder", data_dir="images", image_size=SIZE),
    )
    fast = configured_model(config)
    monkeypatch.setattr("beans_exp.models.inception.speed_up", lambda base, is_frozen: None)
    configure(config)
    plain = build_model(config, 3)
    assert [weight.path for weight in fast.weights] == [weight.path for weight in plain.weights]
    for model in (fast, plain):
        set_trainable(model, config, 1)
    for ours, theirs in zip(_logits_and_gradients(fast), _logits_and_gradients(plain), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4 * np.abs(theirs).max())
