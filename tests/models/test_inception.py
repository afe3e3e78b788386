"""Inception-v3 and GoogLeNet: published counts, blocks, stages, auxiliary classifiers, weights files."""

import os
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from beans_exp.data import Data, Split
from beans_exp.errors import DataError
from beans_exp.fingerprint import fingerprint
from beans_exp.models import build_model, savable_model, set_trainable, training_graph
from beans_exp.models.backbone import Cut, cut_output
from beans_exp.models.cost import multiply_adds, parameters
from beans_exp.models.weights import weights_digest, weights_name
from beans_exp.schema import Config, DataConfig, FinetuneConfig, KernelConfig, ModelConfig, RegConfig, TrainerConfig
from beans_exp.training.evaluation import evaluate
from beans_exp.training.history import History, Stage
from beans_exp.training.optimizer import stage_optimizer
from beans_exp.training.stages import configure, stages, train
from tests.conftest import SIZE, SOURCE
from tests.shared_models import configured_model

BLOCKS = [f"mixed{index}" for index in range(11)]
SHARED_WEIGHTS = str(Path(os.environ.get("BEANS_EXP_INCEPTION_WEIGHTS", "none")).resolve())
"""The variable at the start of the tests: each test runs without it."""


@pytest.fixture
def config(weights: str) -> Config:
    return Config(
        model=ModelConfig("inception", weights, "mixed10"),
        data=DataConfig(name="folder", data_dir="images", image_size=SIZE),
        trainer=TrainerConfig(epochs=1, batch_size=4),
    )


@pytest.fixture(scope="module")
def model(weights: str) -> keras.Model:
    """The full network at the image size of the report, for tests that do not depend on its weights."""
    config = Config(model=ModelConfig("inception", weights, "mixed10"))
    return build_model(config, 3)


TRAINABLE = {
    0: (2_101_251, 311),
    1: (8_174_787, 280),
    2: (13_216_131, 249),
    3: (14_913_155, 229),
    4: (17_053_187, 197),
    5: (18_742_467, 165),
    6: (20_431_747, 133),
    7: (21_727_619, 101),
    8: (22_880_259, 87),
    9: (23_164_915, 64),
    10: (23_441_891, 41),
    11: (23_697_331, 18),
    12: (23_869_603, 1),
}
"""Blocks -> trainable parameters, and the index in the base of the first layer above the last frozen block."""


@pytest.mark.parametrize("blocks", TRAINABLE)
def test_full_blocks_are_unfrozen_from_the_top(blocks: int, model: keras.Model) -> None:
    config = Config(model=ModelConfig("inception", "base", "mixed10"))
    count, first = TRAINABLE[blocks]
    set_trainable(model, config, blocks)
    base = model.get_layer("base")
    assert parameters(model) == (23_904_035, count)
    assert len(base.layers) == 311
    assert [layer.trainable for layer in base.layers] == [index >= first for index in range(311)]


def test_the_base_has_the_published_cost(model: keras.Model) -> None:
    assert multiply_adds(model) == pytest.approx(5.711e9 + 2048 * 1024 + 1024 * 3, rel=1e-3)


@pytest.mark.parametrize(
    ("top_block", "blocks", "name"),
    [
        ("mixed10", 0, "pooling"),
        ("mixed10", 2, "mixed8"),
        ("mixed4", 1, "mixed3"),
        ("mixed4", 5, "stem"),
        ("mixed4", 6, "image"),
    ],
)
def test_blocks_are_counted_down_from_the_top_block(top_block: str, blocks: int, name: str, config: Config) -> None:
    model = configured_model(replace(config, model=replace(config.model, top_block=top_block)))
    assert Cut.below(model, blocks) == Cut(name)


@pytest.mark.parametrize("top_block", ["mixed0", "mixed5"])
def test_a_lower_head_omits_the_blocks_above_it(top_block: str, config: Config) -> None:
    lower = build_model(replace(config, model=replace(config.model, top_block=top_block)), 3)
    names = [layer.name for layer in lower.get_layer("base").layers]
    assert names[-1] == top_block
    assert not set(BLOCKS[BLOCKS.index(top_block) + 1 :]) & set(names)
    set_trainable(lower, replace(config, model=replace(config.model, top_block=top_block)), 1)
    stem = cut_output(lower.get_layer("base"), Cut("stem"))
    assert not stem._keras_history.operation.trainable


def test_the_stages_train_the_head_and_then_the_blocks(config: Config) -> None:
    tuned = replace(config, finetune=FinetuneConfig(blocks=2, epochs=6, learning_rate=1e-5, schedule="cosine"))
    assert list(stages(config)) == [Stage(1, 1, 1e-3)]
    assert list(stages(tuned)) == [Stage(1, 1, 1e-3), Stage(2, 6, 1e-5, "cosine", 2)]
    untrained_head = replace(tuned, trainer=replace(tuned.trainer, epochs=0))
    assert list(stages(untrained_head)) == [Stage(2, 6, 1e-5, "cosine", 2)]


def test_a_cosine_schedule_ends_at_zero() -> None:
    rate = stage_optimizer("adam", Stage(2, 3, 1e-3, "cosine", 2), steps=10)._learning_rate
    assert [float(rate(step)) for step in (0, 15, 30)] == pytest.approx([1e-3, 5e-4, 0], abs=1e-9)


def _train(config: Config, data: Data) -> tuple[keras.Model, dict[str, list[np.ndarray]], History]:
    model = configured_model(config)
    before = _weights(model)
    return model, before, train(model, data, config, lambda epoch: None)


def _weights(model: keras.Model) -> dict[str, list[np.ndarray]]:
    base = model.get_layer("base")
    top = [layer for layer in base.layers if layer.trainable and layer.weights]
    statistics = [
        weight.numpy()
        for layer in base.layers
        if isinstance(layer, keras.layers.BatchNormalization)
        for weight in (layer.moving_mean, layer.moving_variance)
    ]
    kernels = [layer.kernel.numpy() for layer in base.layers if isinstance(layer, keras.layers.Conv2D)]
    head = [weight.numpy() for name in ("dense", "logits") for weight in model.get_layer(name).weights]
    assert top
    return {"statistics": statistics, "kernels": kernels, "head": head}


def _equal(one: list[np.ndarray], other: list[np.ndarray]) -> list[bool]:
    return [np.array_equal(first, second) for first, second in zip(one, other, strict=True)]


def test_two_stages_are_one_run_on_a_base_with_fixed_statistics(config: Config, data: Data) -> None:
    lower = replace(config, model=replace(config.model, top_block="mixed1"))
    tuned = replace(lower, finetune=FinetuneConfig(blocks=1, epochs=2, learning_rate=1e-3))
    model, before, history = _train(tuned, data)
    after = _weights(model)
    assert [epoch.step for epoch in history.epochs] == [1, 2, 3]
    assert [epoch.metrics["stage"] for epoch in history.epochs] == [1, 2, 2]
    assert all(_equal(before["statistics"], after["statistics"]))
    assert not any(_equal(before["head"], after["head"]))
    unchanged = _equal(before["kernels"], after["kernels"])
    assert unchanged.count(False) == 7, "the seven convolutions of mixed1"


def test_equal_seeds_give_equal_heads_at_any_depth(config: Config) -> None:
    heads = []
    for blocks in (0, 3):
        configure(config)
        lower = replace(config, model=replace(config.model, top_block="mixed1"))
        model = build_model(replace(lower, finetune=FinetuneConfig(blocks=blocks)), 3)
        heads.append(_weights(model)["head"])
    assert all(_equal(*heads))


def test_random_weights_are_trained_in_full_with_batch_statistics(config: Config, data: Data) -> None:
    scratch = replace(config, model=ModelConfig("inception", None, "mixed0"), reg=RegConfig(l2=0.01))
    model, before, history = _train(scratch, data)
    after = _weights(model)
    assert not any(_equal(before["kernels"], after["kernels"]))
    assert not any(_equal(before["statistics"], after["statistics"]))
    assert len(history.epochs) == 1
    convolutions = [layer for layer in model.get_layer("base").layers if isinstance(layer, keras.layers.Conv2D)]
    expected = sum(float(0.01 * np.square(layer.kernel.numpy()).sum()) for layer in convolutions)
    assert float(sum(model.losses)) == pytest.approx(expected, rel=1e-4)


def test_regularizers_act_on_the_head_of_a_pretrained_base(config: Config) -> None:
    lower = replace(config, model=replace(config.model, top_block="mixed1"))
    model = build_model(replace(lower, reg=RegConfig(l2=0.01, dropout=0.3)), 3)
    expected = sum(0.01 * np.square(model.get_layer(name).kernel.numpy()).sum() for name in ("dense", "logits"))
    assert float(sum(model.losses)) == pytest.approx(expected, rel=1e-4)
    names = [layer.name for layer in model.layers]
    assert names[-5:] == ["pooling", "dropout1", "dense", "dropout2", "logits"]


def test_googlenet_has_the_published_parameters() -> None:
    config = Config(model=ModelConfig("googlenet"), data=DataConfig(image_size=224))
    model = build_model(config, 3)
    assert parameters(model) == (5_976_627, 5_976_627)
    assert sum(layer.count_params() for layer in model.layers if layer.name.startswith("3a")) == 163_696
    shapes = {layer.name: layer.output.shape[1:] for layer in model.layers}
    assert (shapes["3b"], shapes["4a"], shapes["5b"]) == ((28, 28, 480), (14, 14, 512), (7, 7, 1024))
    assert model.get_layer("dropout").rate == pytest.approx(0.4)
    fives = [layer for layer in model.layers if layer.name.endswith("5x5")]
    factorized = build_model(replace(config, kernel=KernelConfig(factorized=True), reg=RegConfig(dropout=0.2)), 3)
    assert len(fives) == 9
    assert not [layer for layer in factorized.layers if layer.name.endswith("5x5")]
    assert {layer.kernel.shape[0] for layer in factorized.layers if layer.name.endswith(("5x5a", "5x5b"))} == {3}
    assert factorized.get_layer("dropout").rate == pytest.approx(0.2)


@pytest.mark.parametrize("name", ["googlenet", "inception"])
def test_auxiliary_classifiers_are_trained_but_not_saved(name: str, weights: str) -> None:
    top = {"googlenet": None, "inception": "mixed8"}[name]
    config = Config(
        model=ModelConfig(name, weights if top else None, top),
        reg=RegConfig(aux_weight=0.3),
        data=DataConfig(name="folder", data_dir="images", image_size=299 if top else 80),
        finetune=FinetuneConfig(blocks=2 if top else 0),
    )
    model = build_model(config, 3)
    plain = {layer.name for layer in model.layers}
    graph = training_graph(model, config, config.finetune.blocks, cached=False)
    training = keras.Model(graph.inputs, [graph.logits, *graph.auxiliary])
    assert len(graph.auxiliary) == {"googlenet": 2, "inception": 1}[name]
    assert all(output.shape == (None, 3) for output in training.outputs)
    assert {layer.name for layer in model.layers} == plain
    assert not [layer for layer in plain if layer.startswith("aux")]
    if top:
        assert training_graph(model, config, 0, cached=False).auxiliary == []
        aux = [layer for layer in training.layers if layer.name.startswith("aux")]
        assert sum(layer.count_params() for layer in aux) == 768 * 128 + 128 + 25 * 128 * 768 + 768 + 768 * 3 + 3


def test_the_auxiliary_loss_is_added_in_training_only(data: Data) -> None:
    config = Config(
        model=ModelConfig("googlenet"),
        reg=RegConfig(aux_weight=0.3),
        data=DataConfig(name="folder", data_dir="images", image_size=SIZE),
        trainer=TrainerConfig(epochs=1, batch_size=3, microbatch=2),
    )
    configure(config)
    model = build_model(config, 3)
    history = train(model, data, config, lambda epoch: None)
    metrics = history.selected.metrics
    assert metrics["train/loss"] > 1.4 * metrics["train/cross_entropy"], "two classifiers at weight 0.3 start at log 3"
    assert metrics["val/loss"] == pytest.approx(metrics["val/cross_entropy"], rel=1e-4)


def test_a_weights_file_is_named_by_its_stem_and_identified_by_its_content(weights: str, config: Config) -> None:
    assert weights_name(config.model) == "random_base"
    moved = Path("elsewhere.weights.h5")
    moved.write_bytes(Path(weights).read_bytes())
    elsewhere = replace(config.model, weights=str(moved))
    assert weights_digest(elsewhere) == weights_digest(config.model)
    assert fingerprint(replace(config, model=elsewhere), SOURCE) == fingerprint(config, SOURCE)
    moved.write_bytes(b"other")
    assert fingerprint(replace(config, model=elsewhere), SOURCE) != fingerprint(config, SOURCE)


def _damaged(file: Path, weights: str) -> None:
    file.write_bytes(Path(weights).read_bytes()[:100_000])


def _of_another_network(file: Path, weights: str) -> None:
    keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(96, 96, 3)).save_weights(file)


@pytest.mark.parametrize("write", [_damaged, _of_another_network])
def test_an_unsuitable_weights_file_is_named(write: object, weights: str, config: Config) -> None:
    file = Path("wrong.weights.h5")
    assert callable(write)
    write(file, weights)
    with pytest.raises(DataError, match=r"wrong\.weights\.h5 does not fit model=inception.*model\.weights=null"):
        build_model(replace(config, model=replace(config.model, weights=str(file))), 3)


def test_unreachable_imagenet_weights_are_an_immediate_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("socket.create_connection", refuse)
    monkeypatch.setenv("HOME", str(Path.cwd()))
    hint = r"missing.*BEANS_EXP_INCEPTION_WEIGHTS.*model\.weights=null.*random weights in one stage"
    with pytest.raises(DataError, match=hint):
        weights_digest(ModelConfig("inception", "imagenet", "mixed10"))


@pytest.fixture
def shared_weights() -> str:
    if not Path(SHARED_WEIGHTS).is_file():
        pytest.skip("BEANS_EXP_INCEPTION_WEIGHTS names no weights file")
    return SHARED_WEIGHTS


def test_the_pretrained_weights_give_plausible_features(shared_weights: str) -> None:
    model = build_model(Config(model=ModelConfig("inception", shared_weights, "mixed10")), 3)
    image = np.random.default_rng(0).uniform(0, 255, (1, 299, 299, 3)).astype(np.float32)
    pooled = keras.Model(model.input, model.get_layer("pooling").output).predict(image, verbose=0)
    assert pooled.shape == (1, 2048)
    assert np.isfinite(pooled).all()
    assert pooled.std() > 0.05, "random weights give features close to 0"


def test_the_saved_model_consists_of_classes_of_keras(config: Config, tmp_path: Path) -> None:
    lower = replace(config, model=replace(config.model, top_block="mixed1"))
    model = configured_model(replace(lower, reg=RegConfig(dropout=0.2)))
    savable_model(model).save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", safe_mode=True, custom_objects={})
    images = Split(np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), dtype=np.uint8), np.arange(3))
    again = evaluate(loaded, images, config)
    np.testing.assert_allclose(again.logits, evaluate(model, images, config).logits, atol=1e-5)
    assert loaded.count_params() == parameters(model)[0]
    assert loaded.input.shape == model.input.shape
