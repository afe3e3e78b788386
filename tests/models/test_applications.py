"""Bases of `keras.applications`: their pixel scaling, and one of them through both stages, saved and loaded."""

import importlib
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from beans_exp.data import Data
from beans_exp.errors import ConfigError, DataError
from beans_exp.fingerprint import fingerprint
from beans_exp.models import build_model, savable_model
from beans_exp.models.applications import pixel_scaling
from beans_exp.models.describe_bases import architectures
from beans_exp.models.gradcam import gradcam
from beans_exp.run import run
from beans_exp.schema import Config, DataConfig, FeaturesConfig, FinetuneConfig, ModelConfig, TrainerConfig, check
from beans_exp.training.evaluation import evaluate
from beans_exp.training.stages import configure, train
from tests.conftest import SIZE, SOURCE, TINY, Composed

FAMILIES = sorted({getattr(keras.applications, name).__module__ for name in architectures()})


@pytest.mark.parametrize("module", FAMILIES, ids=lambda module: module.rpartition(".")[2])
def test_raw_images_are_scaled_as_the_family_does(module: str) -> None:
    images = np.random.default_rng(0).uniform(0, 255, (2, 8, 8, 3)).astype(np.float32)
    expected = importlib.import_module(module).preprocess_input(images.copy())
    scaled = np.asarray(pixel_scaling(module.rpartition(".")[2])(images))
    np.testing.assert_allclose(scaled, expected, atol=1e-5)


def _save_weights(arch: str, file: Path) -> str:
    keras.utils.set_random_seed(5)
    function = getattr(keras.applications, arch)
    function(include_top=False, weights=None, input_shape=(SIZE, SIZE, 3)).save_weights(file)
    return str(file)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    return _save_weights("MobileNetV3Small", tmp_path_factory.mktemp("weights") / "small.weights.h5")


@pytest.fixture
def config(weights: str) -> Config:
    return Config(
        model=ModelConfig("mobilenetv3small", weights, arch="MobileNetV3Small"),
        data=DataConfig(name="folder", data_dir="images", image_size=SIZE),
        trainer=TrainerConfig(epochs=1, batch_size=4),
        finetune=FinetuneConfig(blocks=2, epochs=1, learning_rate=1e-4),
    )


def test_two_stages_from_the_cache_equal_those_without_it(config: Config, data: Data, tmp_path: Path) -> None:
    logits = {}
    for cache in ("off", "auto"):
        own = replace(config, features=FeaturesConfig(cache=cache))
        configure(own)
        model = build_model(own, 3)
        history = train(model, data, own, lambda epoch: None)
        assert [epoch.metrics["stage"] for epoch in history.epochs] == [1, 2]
        logits[cache] = evaluate(model, data.test, own).logits
    np.testing.assert_allclose(logits["auto"], logits["off"], atol=2e-3)
    savable_model(model).save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_allclose(evaluate(loaded, data.test, config).logits, logits["auto"], atol=1e-5)
    assert gradcam(loaded, np.asarray(data.test.images[0], np.float32)).shape == (SIZE, SIZE)


def test_the_activations_of_two_bases_do_not_meet_in_the_cache(config: Config, data: Data, tmp_path: Path) -> None:
    other = _save_weights("MobileNetV3Large", tmp_path / "large.weights.h5")
    config = replace(config, finetune=FinetuneConfig())
    large = replace(config, model=ModelConfig("large", other, "expanded_conv_2_add", arch="MobileNetV3Large"))
    small = replace(config, model=replace(config.model, top_block="expanded_conv_2_add"))
    for each in (large, small):
        configure(each)
        train(build_model(each, 3), data, each, lambda epoch: None)
    entries = [entry for entry in Path("cache").rglob("*-train-*") if entry.is_dir()]
    assert len(entries) == 2
    assert len({entry.name.rsplit("-", 1)[0] for entry in entries}) == 1


def test_one_architecture_is_one_run_under_any_label(composed: Composed, weights: str) -> None:
    words = [f"model.weights={weights}", "data=folder", "data.data_dir=images"]
    named = check(composed("model=mobilenetv3small", *words))
    chosen = check(composed("model=keras", "model.arch=MobileNetV3Small", *words))
    other = check(composed("model=keras", "model.arch=MobileNetV3Large", *words))
    assert fingerprint(named, SOURCE) == fingerprint(chosen, SOURCE) != fingerprint(other, SOURCE)
    assert named.model.top_block == chosen.model.top_block == "block7"


REFUSED = [
    (["model=keras"], r"model\.arch=null: must be one of"),
    (["model=keras", "model.arch=ResNet5"], r"model\.arch=ResNet5: .*did you mean ResNet50"),
    (["model.arch=ResNet50"], r"model\.arch=ResNet50 has no effect: model=lenet"),
    (["model=resnet50", "finetune.blocks=18"], r"finetune\.blocks=18: must be between 0 and 17"),
    (["model=resnet50", "model.top_block=mixed5"], r"model\.top_block=mixed5: must be one of conv2_block1_out"),
    (
        ["model=resnet50", "data=synthetic", "data.image_size=31"],
        r"image_size=31: must be 32 or more for model=resnet50",
    ),
    (["model=resnet50", "kernel=k3"], r"kernel\.size=3 has no effect: model=resnet50"),
    (["model=resnet50", "reg=aux"], r"aux_weight=0\.3 has no effect: model=resnet50 has no auxiliary"),
    (["model=densenet121", "model.options.growth=3"], r"model\.options\.growth=3 has no effect"),
]


@pytest.mark.parametrize(("words", "message"), REFUSED, ids=lambda value: " ".join(value) if value else "")
def test_what_an_architecture_does_not_have_is_refused(words: list[str], message: str, composed: Composed) -> None:
    with pytest.raises(ConfigError, match=message):
        check(composed(*words))


def test_weights_of_another_architecture_are_refused(config: Config, weights: str) -> None:
    other = replace(config, model=ModelConfig("other", weights, arch="MobileNetV2"))
    with pytest.raises(DataError, match=r"small\.weights\.h5 does not fit model=other"):
        build_model(other, 3)


@pytest.mark.parametrize(
    ("words", "arch"),
    [(["model=resnet50", "finetune=top2"], "ResNet50"), (["model=keras", "model.arch=MobileNetV2"], "MobileNetV2")],
)
def test_the_commands_of_the_readme_run(words: list[str], arch: str, composed: Composed, tmp_path: Path) -> None:
    weights = _save_weights(arch, tmp_path / "random.weights.h5")
    small = [*TINY, "trainer.epochs=1", "trainer.batch_size=8", "finetune.epochs=1"]
    config = composed(*words, f"model.weights={weights}", *small[: 7 if "finetune=top2" not in words else None])
    assert 0 <= run(check(config)) <= 1  # type: ignore[operator]
