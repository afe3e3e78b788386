"""Prediction from image files, and models in MLflow's registry."""

import csv
import io
import json
import re
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import mlflow
import numpy as np
import pytest
from mlflow.models import infer_signature
from PIL import Image

from beans_exp.data import load, source
from beans_exp.data.images import resize
from beans_exp.errors import BeansExpError
from beans_exp.models.inference import BATCH_SIZE, batches, image_files, overlay
from beans_exp.predict import main
from beans_exp.promote import main as promote
from beans_exp.run import run
from beans_exp.schema import Config, DataConfig, KernelConfig, TrackingConfig, TrainerConfig
from beans_exp.tracking import registry
from tests.servers import serving

pytestmark = pytest.mark.xdist_group("predict")
SIZE = 32
CLASSES = ["angular_leaf_spot", "bean_rust", "healthy"]


@dataclass(frozen=True)
class Store:
    """A store with a trained run, and the images that it was tested on as files."""

    folder: Path
    uri: str
    client: mlflow.MlflowClient
    config: Config
    run_id: str
    images: Path

    def model_id(self) -> str:
        return str(self.client.get_run(self.run_id).outputs.model_outputs[0].model_id)

    def run_with(self, tags: dict[str, str]) -> str:
        """The id of a new run without a model."""
        experiment = self.client.get_run(self.run_id).info.experiment_id
        return str(self.client.create_run(experiment, tags=tags).info.run_id)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("store")
    uri = f"sqlite:///{folder}/mlruns/mlflow.db"
    config = Config(
        data=DataConfig(
            name="synthetic",
            image_size=SIZE,
            cache_dir=str(folder / "cache"),
            train_images=12,
            validation_images=6,
            test_images=6,
            draw_seed=0,
        ),
        kernel=KernelConfig(filters=[2, 2, 4]),
        trainer=TrainerConfig(epochs=1, batch_size=8),
        tracking=TrackingConfig(uri=uri, experiment="predict"),
    )
    run(config)
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name("predict")
    assert experiment is not None
    (done,) = client.search_runs([experiment.experiment_id])
    (folder / "images").mkdir()
    for number, image in enumerate(load(config, source(config.data)).test.images):
        Image.fromarray(np.asarray(image)).save(folder / "images" / f"{number}.png")
    return Store(folder, uri, client, config, done.info.run_id, folder / "images")


Said = pytest.CaptureFixture[str]


def _lines(said: Said) -> list[dict[str, Any]]:
    return [json.loads(line) for line in said.readouterr().out.splitlines()]


def _refused(words: list[str], said: Said, command: Callable[[list[str]], int] = main) -> str:
    """The one message with which the command ends."""
    with pytest.raises(SystemExit) as ended:
        command(words)
    assert ended.value.code == 1
    printed = said.readouterr()
    assert printed.out == ""
    (message,) = printed.err.splitlines()
    assert message.startswith("error: ")
    return str(message)


def test_the_probabilities_are_those_that_the_run_logged(
    store: Store, capsys: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(store.folder)  # its mlruns/ is the default
    assert main([store.run_id, "images", "--json"]) == 0
    text = mlflow.artifacts.load_text(f"{store.client.get_run(store.run_id).info.artifact_uri}/predictions.csv")
    rows, lines = list(csv.DictReader(io.StringIO(text))), _lines(capsys)
    assert [line["file"] for line in lines] == [f"images/{number}.png" for number in range(6)]
    for row, line in zip(rows, lines, strict=True):
        assert line["class"] == row["predicted"]
        expected = {name: pytest.approx(float(row[f"p_{name}"]), abs=1e-5) for name in CLASSES}
        assert line["probabilities"] == expected
        assert line["probability"] == max(line["probabilities"].values())
        assert line["gradcam"] is None


@pytest.mark.parametrize("form", ["{run}", "{start}", "runs:/{run}/model", "models:/{model}", "models:/known@best"])
def test_a_model_goes_by_many_names(form: str, store: Store, capsys: Said) -> None:
    promote([store.run_id, "--name", "known", "--alias", "best", "--tracking-uri", store.uri])
    name = form.format(run=store.run_id, start=store.run_id[:8], model=store.model_id())
    capsys.readouterr()
    assert main([name, str(store.images / "0.png"), "--tracking-uri", store.uri]) == 0
    assert CLASSES[0] in capsys.readouterr().out


def test_the_table_names_files_whatever_they_are_called(store: Store, tmp_path: Path, capsys: Said) -> None:
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


def test_a_file_that_is_no_image_is_named_and_the_others_are_done(store: Store, tmp_path: Path, capsys: Said) -> None:
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


def _picture() -> np.ndarray:
    """A picture of few colours, wider than high, so that a palette holds it and a turn shows."""
    return np.random.default_rng(0).choice(np.array([0, 60, 130, 255], np.uint8), (40, 60, 3))


def _grey(picture: np.ndarray) -> np.ndarray:
    return np.repeat(picture[..., :1], 3, axis=2)


def _cmyk(picture: np.ndarray) -> Image.Image:
    return Image.fromarray(255 - np.dstack([picture, np.full_like(picture[..., 0], 255)]), "CMYK")


@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated:DeprecationWarning")
@pytest.mark.parametrize(
    ("name", "image", "expected"),
    [
        ("rgb.png", lambda p: Image.fromarray(p), lambda p: p),
        ("grey.png", lambda p: Image.fromarray(p[..., 0]), _grey),
        ("palette.png", lambda p: Image.fromarray(p).convert("P", palette=Image.Palette.ADAPTIVE), lambda p: p),
        ("rgba.png", lambda p: Image.fromarray(np.dstack([p, p[..., 0]])), lambda p: p),
        ("deep.png", lambda p: Image.fromarray(p[..., 0].astype(np.uint16) * 257), _grey),
        ("cmyk.tiff", _cmyk, lambda p: p),
        ("grey_alpha.png", lambda p: Image.fromarray(p[..., :2]), _grey),
        ("bitmap.png", lambda p: Image.fromarray(p[..., 0] > 100), lambda p: 255 * (_grey(p) > 100).astype(np.uint8)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_any_mode_is_brought_to_the_models_form(
    name: str, image: Callable[[np.ndarray], Image.Image], expected: Callable[[np.ndarray], np.ndarray], tmp_path: Path
) -> None:
    image(_picture()).save(tmp_path / name)
    (batch,) = batches([tmp_path / name], SIZE, pytest.fail)
    np.testing.assert_array_equal(batch.images, resize(expected(_picture()), SIZE)[None])


def test_a_photograph_is_turned_as_its_camera_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    Image.fromarray(_picture()).save(tmp_path / "turned.png", exif=exif)
    (batch,) = batches([tmp_path / "turned.png"], SIZE, pytest.fail)
    np.testing.assert_array_equal(batch.images[0], resize(np.rot90(_picture(), k=-1).copy(), SIZE))


def test_images_are_read_a_batch_at_a_time(tmp_path: Path) -> None:
    Image.fromarray(_picture()).save(tmp_path / "one.png")
    read: list[int] = []

    def files() -> Iterator[Path]:
        for number in range(2 * BATCH_SIZE + 1):
            read.append(number)
            yield tmp_path / "one.png"

    for number, batch in enumerate(batches(files(), SIZE, pytest.fail), start=1):
        assert len(read) == min(number * BATCH_SIZE, 2 * BATCH_SIZE + 1)
        assert batch.images.shape == (len(batch.files), SIZE, SIZE, 3)
        assert batch.images.dtype == np.uint8
    assert len(read) == 2 * BATCH_SIZE + 1


def test_a_folder_stands_for_the_files_below_it(tmp_path: Path) -> None:
    for name in ("b.png", "a/2.jpg", "a/1.jpg", ".hidden.png", ".git/x.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert image_files([tmp_path]) == [tmp_path / name for name in ("b.png", "a/1.jpg", "a/2.jpg")]


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
def test_a_run_without_a_model_says_why(tags: dict[str, str], message: str, store: Store, capsys: Said) -> None:
    run_id = store.run_with(tags)
    assert f"the run {run_id} has no model: " in (
        said := _refused([run_id, str(store.images), "--tracking-uri", store.uri], capsys)
    )
    assert message in said


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
def test_a_model_that_is_not_there_is_one_message(name: str, message: str, store: Store, capsys: Said) -> None:
    words = [name.format(run=store.run_id), str(store.images), "--tracking-uri", store.uri]
    assert re.search(message.replace("{run}", store.run_id), _refused(words, capsys))


def test_a_run_that_was_deleted_is_named_with_the_way_back(store: Store, capsys: Said) -> None:
    run_id = store.run_with({"beans.status": "finished"})
    store.client.delete_run(run_id)
    said = _refused([run_id, str(store.images), "--tracking-uri", store.uri], capsys)
    assert f"mlflow runs restore --run-id {run_id}" in said


def test_the_beginning_of_two_run_ids_is_not_enough(
    store: Store, capsys: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [store.client.get_run(store.run_id)] * 2
    monkeypatch.setattr(mlflow.MlflowClient, "search_runs", lambda *_, **__: found)
    said = _refused(["abc", str(store.images), "--tracking-uri", store.uri], capsys)
    assert "abc is the beginning of several run ids" in said


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


def test_a_model_that_holds_code_is_refused(store: Store, other_model: Callable[..., str], capsys: Said) -> None:
    uri = other_model(_model(keras.layers.Lambda(lambda image: image * 2)), OURS)
    said = _refused([uri, str(store.images), "--tracking-uri", store.uri], capsys)
    assert f"{uri} cannot be loaded in Keras' safe mode: Requested the deserialization of a `Lambda` layer" in said
    assert "safe_mode=False" not in said


def test_a_model_of_another_program_is_refused(store: Store, other_model: Callable[..., str], capsys: Said) -> None:
    said = _refused([other_model(_model(), None), str(store.images), "--tracking-uri", store.uri], capsys)
    assert "its metadata lack classes and image_size" in said


@pytest.mark.parametrize("damage", [Path.unlink, lambda file: file.write_bytes(file.read_bytes()[:100])])
def test_a_damaged_model_is_named(
    damage: Callable[[Path], object], store: Store, other_model: Callable[..., str], capsys: Said
) -> None:
    uri = other_model(_model(), OURS)
    damage(next(store.folder.rglob(f"{uri.removeprefix('models:/')}/artifacts/data/model.keras")))
    assert "model.keras is missing or damaged" in _refused(
        [uri, str(store.images), "--tracking-uri", store.uri], capsys
    )


def test_a_model_whose_folder_is_gone_is_named(store: Store, other_model: Callable[..., str], capsys: Said) -> None:
    uri = other_model(_model(), OURS)
    folder = next(store.folder.rglob(uri.removeprefix("models:/")))
    folder.rename(folder.with_suffix(".moved"))
    said = _refused([uri, str(store.images), "--tracking-uri", store.uri], capsys)
    assert "the model's files cannot be read at file://" in said


def test_a_graph_of_tensorflow_is_refused(tmp_path: Path) -> None:
    (tmp_path / "MLmodel").write_text("flavors: {keras: {data: data, save_exported_model: true}}\n")
    with pytest.raises(BeansExpError, match="not in Keras' own format"):
        registry.load(registry.FetchedModel("models:/graph@x", tmp_path, ("a", "b"), SIZE))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["abc", "images"], "there is no store .*mlruns/mlflow.db.*--tracking-uri"),
        (["abc", "images", "--tracking-uri", "http://127.0.0.1:9"], "no MLflow server answers at http://127.0.0.1:9"),
        (["abc", "nowhere.png"], "nowhere.png does not exist"),
        (["abc", "empty"], "empty holds no files"),
        (["abc", "images", "--gradcam", "images/0.png"], "--gradcam: the folder .*images/0.png cannot be made"),
    ],
)
def test_what_is_missing_is_one_message_and_nothing_is_created(
    words: list[str], message: str, store: Store, tmp_path: Path, capsys: Said
) -> None:
    (tmp_path / "images").symlink_to(store.images)
    (tmp_path / "empty").mkdir()
    assert re.search(message, _refused(words, capsys))
    assert {item.name for item in tmp_path.iterdir()} <= {"images", "empty", "cache"}


def test_mistakes_are_found_before_tensorflow_is_imported(store: Store) -> None:
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


def test_a_picture_shows_where_the_model_looked(store: Store, tmp_path: Path, capsys: Said) -> None:
    pytest.importorskip("beans_exp.models.gradcam")
    words = [store.run_id, str(store.images), "--json", "--gradcam", "heat", "--tracking-uri", store.uri]
    assert main(words) == 0
    files = [tmp_path / "heat" / f"{number + 1:04d}-{number}.png" for number in range(6)]
    assert [line["gradcam"] for line in _lines(capsys)] == [str(file) for file in files]
    for file in files:
        with Image.open(file) as picture:
            assert (picture.size, picture.mode) == ((SIZE, SIZE), "RGB")


def test_heat_lies_over_the_image() -> None:
    image = np.full((2, 2, 3), 100, np.uint8)
    laid_over = overlay(image, np.array([[0, 0.2], [0.8, 1]], np.float32)).astype(int)
    assert laid_over.shape == (2, 2, 3)
    red, blue = laid_over[..., 0], laid_over[..., 2]
    assert (red - blue)[1, 0] > 0 > (red - blue)[0, 1], "hot is red, cold is blue"
    assert laid_over.min() >= 55


def test_promoting_a_run_again_changes_nothing(store: Store, capsys: Said) -> None:
    words = ["--name", "again", "--alias", "champion", "--tracking-uri", store.uri]
    for _ in range(2):
        assert promote([store.run_id[:10], *words]) == 0
        assert "models:/again@champion is version 1\n" in capsys.readouterr().out
    assert len(store.client.search_model_versions("name = 'again'")) == 1
    assert promote([store.run_id, *words[:2], "--alias", "other", *words[4:]]) == 0
    assert "models:/again@other is version 1\n" in capsys.readouterr().out


def test_another_run_takes_the_alias_over(store: Store, capsys: Said) -> None:
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
def test_a_name_that_cannot_be_registered_is_one_message(
    words: list[str], message: str, store: Store, capsys: Said
) -> None:
    words = [word.format(run=store.run_id) for word in words]
    assert message in _refused([*words, "--tracking-uri", store.uri], capsys, promote)


def test_the_printed_command_serves_the_model(store: Store, capsys: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(store.folder)
    promote([store.run_id, "--name", "served"])
    command = re.search(r"serve: +(.*) --port 5001\n", capsys.readouterr().out)
    assert command
    main(["models:/served@champion", "images", "--json"])
    expected = [list(line["probabilities"].items()) for line in _lines(capsys)]
    images = [np.asarray(Image.open(store.images / f"{number}.png")).tolist() for number in range(6)]
    with serving(command[1], store.folder, "/ping") as address:
        request = urllib.request.Request(
            f"{address}/invocations", json.dumps({"inputs": images}).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            logits = np.array(json.loads(answer.read())["predictions"])
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    for row, said in zip(probabilities, expected, strict=True):
        assert dict(said) == {name: pytest.approx(value, abs=1e-5) for name, value in zip(CLASSES, row, strict=True)}
