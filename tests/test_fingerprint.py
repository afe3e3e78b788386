"""Fingerprints: stable when keys are added, different when a default changes, golden for the rows of the study."""

import hashlib
import os
from dataclasses import dataclass, make_dataclass, replace
from pathlib import Path

import pytest

from beans_exp import fingerprint as module
from beans_exp.data import Source
from beans_exp.data import source as describe
from beans_exp.data.prepared import prepare
from beans_exp.fingerprint import HASHED_DEFAULTS, fingerprint, hashed_values, head_fingerprint
from beans_exp.schema import CONF, Config, DataConfig, FinetuneConfig, RegConfig, TrainerConfig
from tests.conftest import Composed

REAL = Path(os.environ.get("TFDS_DATA_DIR") or "tensorflow_datasets").resolve()  # before a test changes the folder

BEANS = Source("beans", "0.1.0", "9" * 64, ("angular_leaf_spot", "bean_rust", "healthy"), lambda _: iter(()))
"""The data set of the golden fingerprints, by a digest that nothing on this machine decides."""
GOLDEN_ROWS = {
    "inception_frozen": "92ace27c69d21ab6",
    "inception_top2": "adcdbb49d52879f4",
    "inception_top3": "f456b1dd27bff632",
    "inception_top6": "69f889a157ac902a",
    "lenet": "1ca1152824cfa4c5",
    "lenet_dropout": "aaaf6991f31f1105",
    "lenet_k3": "5fb19c888b3d2b52",
    "lenet_k7": "a04b6a5c1b856c5b",
    "lenet_l1": "25e7b594d15e4750",
    "lenet_l2": "11797b5f15e1bd71",
    "lenet_narrow": "6292b945f8fc5e3e",
    "lenet_wide": "9f81b401c0f21461",
}
"""Whoever changes one of these has to run the published study again."""


@pytest.fixture
def base_weights(tmp_path: Path) -> str:
    file = tmp_path / "base.weights.h5"
    file.write_bytes(b"weights that are only hashed")
    return str(file)


@pytest.mark.parametrize("row", sorted(file.stem for file in (CONF / "study").glob("*.yaml")))
def test_the_rows_of_the_study_keep_their_fingerprints(row: str, composed: Composed, base_weights: str) -> None:
    words = [f"model.weights={base_weights}"] if row.startswith("inception") else []
    assert fingerprint(composed(f"study={row}", *words), BEANS) == GOLDEN_ROWS[row]


def test_every_hashed_key_has_its_default_in_the_table() -> None:
    assert {key for key, _ in hashed_values(Config())} == set(HASHED_DEFAULTS)


def test_a_new_key_with_a_default_leaves_the_fingerprint_alone() -> None:
    reg = make_dataclass("Reg", [("mixup", float, 0.0)], bases=(RegConfig,))
    config = Config(reg=RegConfig(l2=0.01))
    newer = replace(config, reg=reg(l2=0.01))
    assert fingerprint(newer, BEANS) == fingerprint(config, BEANS)
    assert fingerprint(replace(config, reg=reg(l2=0.01, mixup=0.2)), BEANS) != fingerprint(config, BEANS)


def test_a_changed_default_changes_the_runs_that_rely_on_it() -> None:
    @dataclass
    class LongTrainer(TrainerConfig):
        epochs: int = 30

    old, new = Config(), Config(trainer=LongTrainer())
    assert fingerprint(new, BEANS) != fingerprint(old, BEANS)
    assert fingerprint(Config(trainer=LongTrainer(epochs=20)), BEANS) == fingerprint(old, BEANS)
    assert fingerprint(Config(trainer=TrainerConfig(epochs=30)), BEANS) == fingerprint(new, BEANS)


def test_a_raised_result_version_changes_every_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint(Config(), BEANS)
    monkeypatch.setattr(module, "RESULT_VERSION", module.RESULT_VERSION + 1)
    assert fingerprint(Config(), BEANS) != before


def test_a_head_is_known_by_its_first_stage_alone() -> None:
    config = Config()
    tuned = replace(config, finetune=FinetuneConfig(blocks=2, epochs=3))
    assert head_fingerprint(tuned, BEANS) == head_fingerprint(config, BEANS)
    assert head_fingerprint(replace(tuned, seed=1), BEANS) != head_fingerprint(config, BEANS)


PIXELS = {
    "train": "8af0a38303dc15ea7d644f78144071c04355cff482ff4ba115d666b50d1f3207",
    "validation": "b296164cb6ccdad78848609a4e60dc0d76009b3693331fe40f5fc8d724c312c5",
    "test": "703235969f2f853e52e7a5fe0d8d78b83c1ce7ffac4c5c001164322f2ea086aa",
}
"""Of the images that the study trains and tests on: SHA-256 of each split's pixels at 299x299."""


@pytest.mark.skipif(not (REAL / "beans" / "0.1.0").is_dir(), reason="TFDS_DATA_DIR names no folder with beans/0.1.0")
def test_the_prepared_pixels_of_beans_are_golden() -> None:
    described = describe(DataConfig(data_dir=str(REAL)))
    splits = prepare(described, 299, None)
    assert {name: hashlib.sha256(split.images.tobytes()).hexdigest() for name, split in splits.items()} == PIXELS
