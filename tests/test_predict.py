"""`python -m beans_exp.predict`: image files classified by a saved model, and models that are refused."""

import csv
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import keras
import mlflow
import numpy as np
import pytest
from mlflow.models import infer_signature
from PIL import Image

from beans_exp.errors import BeansExpError
from beans_exp.predict import main
from beans_exp.promote import main as promote
from beans_exp.tracking import registry
from tests.trained import CLASSES, SIZE, Output, Store, error_of, json_lines

pytestmark = pytest.mark.xdist_group("store")


def test_the_probabilities_match_those_that_the_run_logged(
    store: Store, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(store.folder)  # its mlruns/ is the default
    assert main([store.run_id, "images", "--json"]) == 0
    text = mlflow.artifacts.load_text(f"{store.client.get_run(store.run_id).info.artifact_uri}/predictions.csv")
    rows, lines = list(csv.DictReader(io.StringIO(text))), json_lines(capsys)
    assert [line["file"] for line in lines] == [f"images/{number}.png" for number in range(6)]
    for row, line in zip(rows, lines, strict=True):
        assert line["class"] == row["predicted"]
        expected = {name: pytest.approx(float(row[f"p_{name}"]), abs=1e-5) for name in CLASSES}
        assert line["probabilities"] == expected
        assert line["probability"] == max(line["probabilities"].values())
        assert line["gradcam"] is None


@pytest.mark.parametrize("form", ["{run}", "{start}", "runs:/{run}/model", "models:/{model}", "models:/known@best"])
def test_a_model_has_several_names(form: str, store: Store, capsys: Output) -> None:
    promote([store.run_id, "--name", "known", "--alias", "best", "--tracking-uri", store.uri])
    name = form.format(run=store.run_id, start=store.run_id[:8], model=store.model_id())
    capsys.readouterr()
    assert main([name, str(store.images / "0.png"), "--tracking-uri", store.uri]) == 0
    assert CLASSES[0] in capsys.readouterr().out


def test_the_table_shows_unusual_file_names(store: Store, tmp_path: Path, capsys: Output) -> None:
    for name in (b"[red]leaf.png", b":leaf:.png", b"na\xefve.png"):
        (tmp_path / "odd").mkdir(exist_ok=True)
        Path(str(tmp_path / "odd"), name.decode(errors="surrogateescape")).write_bytes(
            (store.images / "1.png").read_bytes()
        )
    assert main([store.run_id, "odd", "--tracking-uri", store.uri]) == 0
    table = capsys.readouterr().out
    for shown in ("odd/[red]leaf.png", "odd/:leaf:.png", "odd/na\\udcefve.png"):
        assert shown in table
    assert all(word in table for word in CLASSES)


def test_unreadable_files_are_named_and_the_others_classified(store: Store, tmp_path: Path, capsys: Output) -> None:
    whole = (store.images / "1.png").read_bytes()
    for name, content in {"a.png": whole, "cut.png": whole[:200], "notes.txt": b"no image", "z.png": whole}.items():
        (tmp_path / name).write_bytes(content)
    files = ["a.png", "cut.png", "notes.txt", "z.png"]
    assert main([store.run_id, *files, "--json", "--tracking-uri", store.uri]) == 1
    printed = capsys.readouterr()
    assert [json.loads(line)["file"] for line in printed.out.splitlines()] == ["a.png", "z.png"]
    cut, notes = printed.err.splitlines()
    assert cut.startswith("error: cut.png cannot be read")
    assert notes.startswith("error: notes.txt cannot be read")


SWEEP = {"beans.role": "sweep", "beans.status": "finished"}


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        (SWEEP, "is the parent of a sweep. Give one of its runs"),
        ({"beans.status": "finished"}, "tracking.save_model was none. Train it again with if_exists=rerun"),
        ({"beans.status": "finished", "beans.model": "deleted: not the best"}, "deleted: not the best. Train it again"),
        ({"beans.status": "pruned"}, "it ended as pruned. Train it again"),
        ({}, "it has not ended, or was killed"),
    ],
)
def test_a_run_without_a_model_gives_the_reason(
    tags: dict[str, str], message: str, store: Store, capsys: Output
) -> None:
    run_id = store.run_with(tags)
    printed = error_of([run_id, str(store.images), "--tracking-uri", store.uri], capsys)
    assert f"the run {run_id} has no model: " in printed
    assert message in printed


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("f" * 32, "there is no run ffff.*The newest finished runs: [0-9a-f]{32} \\(lenet"),
        ("a'b", "there is no run a'b"),
        ("models:/m-nothing", "m-nothing does not exist or was deleted"),
        ("models:/nothing@champion", "is not in the registry .*"),
        ("models:/nothing/3", "is not in the registry .*"),
        ("runs:/{run}/other", "a run's model is named model: runs:/{run}/model"),
        ("s3://bucket/model", "must be a run id, models:/NAME@ALIAS"),
    ],
)
def test_an_unknown_model_is_one_message(name: str, message: str, store: Store, capsys: Output) -> None:
    words = [name.format(run=store.run_id), str(store.images), "--tracking-uri", store.uri]
    assert re.search(message.replace("{run}", store.run_id), error_of(words, capsys))


def test_a_deleted_run_is_named_with_the_way_to_restore_it(store: Store, capsys: Output) -> None:
    run_id = store.run_with({"beans.status": "finished"})
    store.client.delete_run(run_id)
    message = error_of([run_id, str(store.images), "--tracking-uri", store.uri], capsys)
    assert f"MLFLOW_TRACKING_URI={store.uri} mlflow runs restore --run-id {run_id}" in message


def test_an_ambiguous_run_id_iserror_of(store: Store, capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [store.client.get_run(store.run_id)] * 2
    monkeypatch.setattr(mlflow.MlflowClient, "search_runs", lambda *_, **__: found)
    message = error_of(["abc", str(store.images), "--tracking-uri", store.uri], capsys)
    assert "abc is the beginning of several run ids" in message


@pytest.fixture
def other_model(store: Store) -> Callable[..., str]:
    """Log another model to the store, and return its URI."""
    mlflow.set_tracking_uri(store.uri)
    mlflow.set_experiment("predict")

    def log_model(model: keras.Model, metadata: dict[str, object] | None) -> str:
        signature = infer_signature(np.zeros((1, SIZE, SIZE, 3), np.float32), np.zeros((1, 3), np.float32))
        logged = mlflow.keras.log_model(
            model, name="model", signature=signature, metadata=metadata, pip_requirements=["keras"]
        )
        return f"models:/{logged.model_id}"

    return log_model


OURS = {"classes": CLASSES, "image_size": SIZE}


def _model(*layers: keras.Layer) -> keras.Model:
    return keras.Sequential([keras.Input((SIZE, SIZE, 3)), *layers, keras.layers.Flatten(), keras.layers.Dense(3)])


def test_a_model_with_code_iserror_of(store: Store, other_model: Callable[..., str], capsys: Output) -> None:
    uri = other_model(_model(keras.layers.Lambda(lambda image: image * 2)), OURS)
    message = error_of([uri, str(store.images), "--tracking-uri", store.uri], capsys)
    assert f"{uri} cannot be loaded in Keras' safe mode: Requested the deserialization of a `Lambda` layer" in message
    assert "safe_mode=False" not in message


def test_a_model_of_another_program_iserror_of(store: Store, other_model: Callable[..., str], capsys: Output) -> None:
    message = error_of([other_model(_model(), None), str(store.images), "--tracking-uri", store.uri], capsys)
    assert "its metadata lack classes and image_size" in message


@pytest.mark.parametrize("damage", [Path.unlink, lambda file: file.write_bytes(file.read_bytes()[:100])])
def test_a_damaged_model_is_named(
    damage: Callable[[Path], object], store: Store, other_model: Callable[..., str], capsys: Output
) -> None:
    uri = other_model(_model(), OURS)
    damage(next(store.folder.rglob(f"{uri.removeprefix('models:/')}/artifacts/data/model.keras")))
    assert "model.keras is missing or damaged" in error_of(
        [uri, str(store.images), "--tracking-uri", store.uri], capsys
    )


def test_a_model_whose_folder_was_moved_is_named(store: Store, other_model: Callable[..., str], capsys: Output) -> None:
    uri = other_model(_model(), OURS)
    folder = next(store.folder.rglob(uri.removeprefix("models:/")))
    folder.rename(folder.with_suffix(".moved"))
    message = error_of([uri, str(store.images), "--tracking-uri", store.uri], capsys)
    assert "the model's files cannot be read at file://" in message


def test_a_tensorflow_graph_iserror_of(tmp_path: Path) -> None:
    (tmp_path / "MLmodel").write_text("flavors: {keras: {data: data, save_exported_model: true}}\n")
    with pytest.raises(BeansExpError, match="not in Keras' own format"):
        registry.load(registry.FetchedModel("models:/graph@x", tmp_path, ("a", "b"), SIZE))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["abc", "images"], "there is no store .*mlruns/mlflow.db.*--tracking-uri"),
        (["abc", "images", "--tracking-uri", "http://127.0.0.1:9"], "no MLflow server answers at http://127.0.0.1:9"),
        (["abc", "nowhere.png"], "nowhere.png does not exist"),
        (["abc", "empty"], "empty contains no files"),
        (["abc", "images", "--gradcam", "images/0.png"], "--gradcam: the folder .*images/0.png cannot be created"),
    ],
)
def test_missing_input_is_one_message_and_creates_nothing(
    words: list[str], message: str, store: Store, tmp_path: Path, capsys: Output
) -> None:
    (tmp_path / "images").symlink_to(store.images)
    (tmp_path / "empty").mkdir()
    assert re.search(message, error_of(words, capsys))
    assert {item.name for item in tmp_path.iterdir()} <= {"images", "empty", "cache"}


def test_errors_appear_before_tensorflow_is_imported(store: Store) -> None:
    (store.folder / "poison").mkdir()
    for name in ("tensorflow", "keras"):
        (store.folder / "poison" / f"{name}.py").write_text(f"raise ImportError('{name} was imported too early')")
    code = "import sys; from beans_exp.predict import main; main(sys.argv[1:])"
    ended = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, 'poison'); {code}", "ffff", "images"],
        cwd=store.folder,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: there is no run ffff")


def test_a_picture_shows_where_the_model_looked(store: Store, tmp_path: Path, capsys: Output) -> None:
    pytest.importorskip("beans_exp.models.gradcam")
    words = [store.run_id, str(store.images), "--json", "--gradcam", "heat", "--tracking-uri", store.uri]
    assert main(words) == 0
    files = [tmp_path / "heat" / f"{number + 1:04d}-{number}.png" for number in range(6)]
    assert [line["gradcam"] for line in json_lines(capsys)] == [str(file) for file in files]
    for file in files:
        with Image.open(file) as picture:
            assert (picture.size, picture.mode) == ((SIZE, SIZE), "RGB")


class _Code(mlflow.pyfunc.PythonModel):
    """A model that runs its own code where it is served."""

    def predict(self, context: object, model_input: object) -> object:
        return model_input


def test_a_model_with_code_is_not_promoted(store: Store, capsys: Output) -> None:
    mlflow.set_tracking_uri(store.uri)
    mlflow.set_experiment("predict")
    example = np.zeros((1, 3), np.float32)
    logged = mlflow.pyfunc.log_model(
        name="model", python_model=_Code(), metadata=OURS, input_example=example, pip_requirements=["keras"]
    )
    uri = f"models:/{logged.model_id}"
    capsys.readouterr()  # MLflow's notes
    message = error_of([uri, "--name", "code", "--tracking-uri", store.uri], capsys, promote)
    assert "is not in Keras' own format" in message
    assert not store.client.search_registered_models("name = 'code'")


def test_a_model_of_ours_whose_loader_was_exchanged_is_not_promoted(
    store: Store, other_model: Callable[..., str], capsys: Output
) -> None:
    uri = other_model(_model(), OURS)
    file = next(store.folder.rglob(f"{uri.removeprefix('models:/')}/artifacts/MLmodel"))
    file.write_text(file.read_text().replace("loader_module: mlflow.keras", "loader_module: mlflow.pyfunc.model"))
    message = error_of([uri, "--name", "code", "--tracking-uri", store.uri], capsys, promote)
    assert "brings code that would run where it is served" in message
