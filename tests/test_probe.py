"""`python -m beans_exp.probe --blocks`: the blocks of a base with their costs, without data and weights."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from beans_exp.probe import main
from beans_exp.schema.python_source import use_folder
from tests.trained import Output, error_of


@pytest.fixture(autouse=True)
def _leave_folder() -> Iterator[None]:
    yield
    use_folder(None)


def _rows(output: Output) -> list[list[str]]:
    return [line.split() for line in output.readouterr().out.splitlines() if re.match(r" +(\d+|all) ", line)]


def test_inceptions_blocks_have_the_published_costs(output: Output) -> None:
    assert main(["--blocks", "model=inception"]) == 0
    rows = _rows(output)
    assert [row[:2] for row in rows[:2]] == [["1", "mixed10"], ["2", "mixed9"]]
    assert rows[0] == ["1", "mixed10", "8x8x2048", "6,080,064", "388,497,408", "8,192"]
    assert rows[3][2:] == ["17x17x768", "2,143,872", "617,914,368", "887,808"]
    assert rows[-1] == ["all", "21,802,784", "5,711,168,096"]


def test_a_base_of_the_users_own_is_listed(output: Output) -> None:
    Path("my_conf/model").mkdir(parents=True)
    Path("my_conf/model/own.yaml").write_text("# my own\nname: own\nbuild: probed_nets.own\nbackbone: true\n")
    Path("my_conf/probed_nets.py").write_text(
        "import keras\nfrom keras import layers\n"
        "def own(image_size: int):\n"
        "    x = images = keras.Input((image_size, image_size, 3))\n"
        "    for number in range(3):\n"
        "        x = layers.MaxPooling2D(name=f'pool{number}')(layers.Conv2D(4, 3, padding='same')(x))\n"
        "    return keras.Model(images, x)\n"
    )
    assert main(["--blocks", "--config-dir", "my_conf", "model=own", "data.image_size=32"]) == 0
    rows = _rows(output)
    assert [row[1] for row in rows] == ["pool2", "pool1", "stem", f"{2 * 148 + 112}"]
    assert rows[1] == ["2", "pool1", "8x8x4", "148", f"{16 * 16 * 144:,}", f"{8 * 8 * 4 * 4:,}"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model=lenet"], "model=lenet: must be a model with a base"),
        (["model=resnet51"], "Could not find 'model/resnet51'"),
        (["model=resnet50", "data.image_size=20"], "32 or more for model=resnet50"),
    ],
)
def test_what_has_no_blocks_is_refused(words: list[str], message: str, output: Output) -> None:
    assert message in error_of(["--blocks", *words], output, main)


@pytest.fixture
def output(capsys: Output, monkeypatch: pytest.MonkeyPatch) -> Output:
    monkeypatch.setenv("COLUMNS", "140")
    return capsys
