"""The summary of a model by stage."""

import re

import pytest

from beans_exp.models import build_model
from beans_exp.schema import Config, DataConfig, FinetuneConfig, ModelConfig
from beans_exp.training.stages import configure
from beans_exp.training.summary import model_summary
from tests.conftest import SIZE


def _headings(text: str) -> list[str]:
    return re.findall(r"^stage .*$", text, flags=re.MULTILINE)


@pytest.mark.parametrize(
    ("blocks", "trained", "frozen"),
    [(2, "13,216,131", "10,687,904"), (3, "14,913,155", "8,990,880"), (6, "20,431,747", "3,472,288")],
)
def test_each_stage_of_inception_counts_its_own_parameters(
    blocks: int, trained: str, frozen: str, weights: str
) -> None:
    config = Config(
        model=ModelConfig("inception", weights, "mixed10"),
        data=DataConfig(image_size=SIZE),
        finetune=FinetuneConfig(blocks=blocks),
    )
    configure(config)
    text = model_summary(build_model(config, 3), config)
    assert _headings(text) == [
        "stage 1: 2,101,251 of 23,904,035 parameters trained, 21,802,784 frozen",
        f"stage 2: {trained} of 23,904,035 parameters trained, {frozen} frozen",
    ]
    assert text.count("logits") == 2


def test_a_model_without_a_base_is_trained_whole_in_one_stage() -> None:
    config = Config(data=DataConfig(image_size=32))
    configure(config)
    assert _headings(model_summary(build_model(config, 3), config)) == [
        "stage 1: 57,195 of 57,195 parameters trained, 0 frozen"
    ]
