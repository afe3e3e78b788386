"""A stranger's folder (nested, mixed formats, leftovers, a broken photo, no splits): every command of the README."""

import csv
import io
import os
import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np
import pytest
from PIL import Image

from beans_exp.predict import main as predict
from beans_exp.report.__main__ import main as report
from beans_exp.tracking.registry import fetched, find_model
from tests.data.builders import truncate
from tests.trained import Output, json_lines

pytestmark = pytest.mark.xdist_group("own data")

SMALL = "data.image_size=32 kernel.filters=[2,2,4] trainer.epochs=1 trainer.batch_size=8"
SEARCH = "-m hydra/sweeper=optuna reg.dropout=interval(0,0.5) hydra.sweeper.n_trials=1 confirm.seeds=1 confirm.top=1"
COMMANDS = [
    f"data=folder data.data_dir=leaves data.on_error=skip data.fit=pad data.resize=antialias {SMALL}",
    f"{SEARCH} hydra/launcher=basic data=folder data.data_dir=leaves data.on_error=skip {SMALL}",
    f"data=table data.file=leaves.csv tracking.save_model=none {SMALL}",
    f"data=folder data.data_dir=leaves data.split=split.csv data.on_error=skip tracking.save_model=none seed=1 {SMALL}",
]
DRIVER = """
import sys
from beans_exp.__main__ import main
for words in sys.argv[1:]:
    sys.argv = ["python -m beans_exp", *words.split()]
    main()
"""


def write_leaves(root: Path) -> None:
    rng = np.random.default_rng(0)
    suffixes = (".jpg", ".JPEG", ".png", ".webp", ".tif", ".BMP", ".gif")
    for value, name in enumerate(("healthy", "rust", "spot")):
        for number in range(12):
            file = root / name / f"field {number % 2}" / f"IMG {number}{suffixes[number % len(suffixes)]}"
            file.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.clip(rng.normal(60 + 60 * value, 20, (36, 48, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(file)
    for name in ("Thumbs.db", ".DS_Store", "rust/desktop.ini", "rust/field 0/._IMG 0.jpg"):
        (root / name).touch()
    truncate(root / "spot" / "field 0" / "IMG 0.jpg", 0.5)


def write_table(root: Path, file: Path) -> None:
    images = sorted(path for path in root.rglob("IMG *") if path.name != "IMG 0.jpg")
    lines = [f"{path.relative_to(file.parent)},{path.parents[1].name},{path.parent.name}" for path in images]
    file.write_text("\n".join(["path,label,field", *lines]) + "\n")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the commands were run, one after the other in one process."""
    folder = tmp_path_factory.mktemp("stranger")
    write_leaves(folder / "leaves")
    write_table(folder / "leaves", folder / "leaves.csv")
    variables = os.environ | {"XDG_CACHE_HOME": str(folder / "cache"), "XDG_DATA_HOME": str(folder / "share")}
    ran = [sys.executable, "-c", DRIVER]
    for commands in (COMMANDS[:3], COMMANDS[3:]):
        ended = subprocess.run(
            [*ran, *commands], cwd=folder, capture_output=True, text=True, env=variables, timeout=400
        )
        assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
        kept = folder.glob("mlruns/artifacts/*/*/artifacts/split.csv")
        first = min(kept, key=lambda file: file.stat().st_mtime)  # of the folder, not of the table
        (folder / "split.csv").write_text(first.read_text())
    return folder


@pytest.fixture(autouse=True)
def _in_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(folder / "share"))


def runs(folder: Path) -> list[mlflow.entities.Run]:
    """The finished runs, oldest first, without the parent of the search."""
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")
    experiments = [one.experiment_id for one in client.search_experiments()]
    found = client.search_runs(experiments, "attributes.status = 'FINISHED'", order_by=["attributes.start_time"])
    return [run for run in found if "beans.role" not in run.data.tags]


def artifact(run: mlflow.entities.Run, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(mlflow.artifacts.load_text(f"{run.info.artifact_uri}/{name}"))))


def test_runs_keep_the_split_and_what_was_skipped(folder: Path) -> None:
    first, *_, last = runs(folder)
    assert artifact(first, "skipped.csv") == [{"image": "spot/field 0/IMG 0.jpg", "reason": "Truncated File Read"}]
    assert artifact(first, "split.csv") == artifact(last, "split.csv")
    tested = {row["image"] for row in artifact(first, "split.csv") if row["split"] == "test"}
    assert {row["image"] for row in artifact(first, "predictions.csv")} == tested - {"spot/field 0/IMG 0.jpg"}


def test_params_hold_no_paths(folder: Path) -> None:
    for run in runs(folder):
        assert {"data.data_dir", "data.file"}.isdisjoint(run.data.params)
    assert runs(folder)[-1].data.params["data.split"] == "split.csv"


def test_predict_reads_images_as_the_model_was_trained(folder: Path, capsys: Output) -> None:
    first = runs(folder)[0]
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")
    with fetched(find_model(client, first.info.run_id)) as model:
        assert (model.pixels.fit, model.pixels.resize, model.pixels.decoder) == ("pad", "antialias", "pillow")
    rows = artifact(first, "predictions.csv")
    assert predict([first.info.run_id, *(f"leaves/{row['image']}" for row in rows), "--json"]) == 0
    for row, line in zip(rows, json_lines(capsys), strict=True):
        assert line["file"] == f"leaves/{row['image']}"
        assert line["probabilities"] == {
            name: pytest.approx(float(row[f"p_{name}"]), abs=1e-5) for name in ("healthy", "rust", "spot")
        }


def test_the_report_names_the_images(folder: Path, capsys: Output) -> None:
    report(["--data-dir", "leaves"])
    assert "test images are not shown" not in capsys.readouterr().out
    page = (folder / "report" / "report.html").read_text()
    named = [row["image"] for row in artifact(runs(folder)[0], "predictions.csv")]
    assert any(f"({name})" in page for name in named)
