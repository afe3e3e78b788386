"""`python -m beans_exp.promote`: models in MLflow's registry, and the command that serves them."""

import json
import re
import urllib.request
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from beans_exp.predict import main
from beans_exp.promote import main as promote
from beans_exp.run import run
from tests.servers import serving
from tests.trained import CLASSES, Output, Store, error_of, json_lines

pytestmark = pytest.mark.xdist_group("store")


def test_promoting_a_run_twice_changes_nothing(store: Store, capsys: Output) -> None:
    words = ["--name", "again", "--alias", "champion", "--tracking-uri", store.uri]
    for _ in range(2):
        assert promote([store.run_id[:10], *words]) == 0
        assert "models:/again@champion is version 1\n" in capsys.readouterr().out
    assert len(store.client.search_model_versions("name = 'again'")) == 1
    assert promote([store.run_id, *words[:2], "--alias", "other", *words[4:]]) == 0
    assert "models:/again@other is version 1\n" in capsys.readouterr().out


def test_promoting_another_run_moves_the_alias(store: Store, capsys: Output) -> None:
    words = ["--name", "over", "--tracking-uri", store.uri]
    promote([store.run_id, *words])
    run(replace(store.config, seed=1))
    second = next(
        found.info.run_id
        for found in store.client.search_runs([store.client.get_run(store.run_id).info.experiment_id])
        if found.data.params.get("seed") == "1"
    )
    promote([second, *words])
    assert "models:/over@champion is version 2\n" in capsys.readouterr().out
    assert store.client.get_model_version_by_alias("over", "champion").run_id == second
    promote([store.run_id, *words])
    assert "models:/over@champion is version 1\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{run}", "--alias", "latest"], "beans_exp@latest cannot be registered: 'latest' alias name"),
        (["{run}", "--name", "a/b"], "a/b@champion cannot be registered: Invalid model name"),
        (["ffff"], "there is no run ffff"),
    ],
)
def test_an_invalid_name_is_one_message(words: list[str], message: str, store: Store, capsys: Output) -> None:
    words = [word.format(run=store.run_id) for word in words]
    assert message in error_of([*words, "--tracking-uri", store.uri], capsys, promote)


def test_the_printed_command_serves_the_model(store: Store, capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(store.folder)
    promote([store.run_id, "--name", "served"])
    command = re.search(r"serve: +(.*) --port 5001\n", capsys.readouterr().out)
    assert command
    main(["models:/served@champion", "images", "--json"])
    expected = [list(line["probabilities"].items()) for line in json_lines(capsys)]
    images = [np.asarray(Image.open(store.images / f"{number}.png")).tolist() for number in range(6)]
    with serving(command[1], store.folder, "/ping") as address:
        request = urllib.request.Request(
            f"{address}/invocations", json.dumps({"inputs": images}).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            logits = np.array(json.loads(answer.read())["predictions"])
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    for row, predicted in zip(probabilities, expected, strict=True):
        assert dict(predicted) == {
            name: pytest.approx(value, abs=1e-5) for name, value in zip(CLASSES, row, strict=True)
        }
