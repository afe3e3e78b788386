"""Packed and unpacked runs: everything that was logged is in the other store, and grids and reports there use it."""

import io
import json
import re
from pathlib import Path
from zipfile import ZipFile

import optuna
import pytest
from mlflow.entities import Run
from PIL import Image

from beans_exp.predict import main as predict
from beans_exp.processes import this_process
from beans_exp.report.__main__ import main as report
from beans_exp.status import main as status
from beans_exp.tracking.packed import travels
from tests.pack.stores import GRID, SEARCH, Store, run_program

pytestmark = pytest.mark.xdist_group("packed")


def _histories(store: Store, run: Run) -> dict[str, set[tuple[int, int, float]]]:
    return {
        name: {
            (point.step, point.timestamp, point.value)
            for point in store.client.get_metric_history(run.info.run_id, name)
        }
        for name in run.data.metrics
    }


def test_every_run_is_copied_under_a_new_id(trained: Store, unpacked: Store) -> None:
    copies = unpacked.copies
    assert set(copies) == {run.info.run_id for run in trained.runs}
    for run in trained.runs:
        copy = copies[run.info.run_id]
        assert copy.info.run_id != run.info.run_id
        for name in ("run_name", "status", "start_time", "end_time"):
            assert getattr(copy.info, name) == getattr(run.info, name)
        assert copy.data.params == run.data.params
        assert _histories(unpacked, copy) == _histories(trained, run)
        kept = {key: value for key, value in run.data.tags.items() if travels(key) and key != "beans.model"}
        assert {key: copy.data.tags.get(key) for key in kept} == kept
        assert "beans.process" not in copy.data.tags and "mlflow.user" not in copy.data.tags
        assert [item.dataset.to_dictionary() for item in copy.inputs.dataset_inputs] == [
            item.dataset.to_dictionary() for item in run.inputs.dataset_inputs
        ]


def test_every_artifact_is_kept_and_pictures_are_drawn(trained: Store, unpacked: Store, packed: Path) -> None:
    with ZipFile(packed) as file:
        assert not [name for name in file.namelist() if name.endswith(("curves.png", "confusion_matrix.png"))]
    for run in trained.children:
        copy = unpacked.copies[run.info.run_id]
        ours, theirs = trained.artifacts(run), unpacked.artifacts(copy)
        assert set(ours) == set(theirs)
        for name, content in ours.items():
            if name.endswith(".png"):
                assert Image.open(io.BytesIO(theirs[name])).size == Image.open(io.BytesIO(content)).size
            else:
                assert theirs[name] == content


def test_parents_are_kept_and_tables_name_the_new_runs(trained: Store, unpacked: Store) -> None:
    ids = {packed: run.info.run_id for packed, run in unpacked.copies.items()}
    for run in trained.children:
        copy = unpacked.copies[run.info.run_id]
        assert copy.data.tags["mlflow.parentRunId"] == ids[run.data.tags["mlflow.parentRunId"]]
    for parent in trained.parents:
        rows = unpacked.jobs(unpacked.copies[parent.info.run_id])
        assert rows == [row | {"run_id": ids[row["run_id"]]} for row in trained.jobs(parent)]


def test_the_trials_of_a_search_are_copied(trained: Store, unpacked: Store, capsys: pytest.CaptureFixture[str]) -> None:
    (name,) = optuna.get_all_study_names(trained.storage)
    before, after = (optuna.load_study(study_name=name, storage=store.storage).trials for store in (trained, unpacked))
    ids = {packed: run.info.run_id for packed, run in unpacked.copies.items()}
    for trial, copy in zip(before, after, strict=True):
        for attribute in ("state", "values", "params", "distributions", "intermediate_values", "datetime_start"):
            assert getattr(copy, attribute) == getattr(trial, attribute)
        assert copy.user_attrs["beans.run"] == ids[trial.user_attrs["beans.run"]]
        assert "beans.process" not in copy.user_attrs
    status(["--tracking-uri", unpacked.uri])
    assert "2 trials planned: 2 complete" in capsys.readouterr().out


def test_a_repeat_adds_nothing_and_packing_again_gives_the_same_bytes(unpacked: Store, packed: Path) -> None:
    before = [run.to_dictionary() for run in unpacked.runs]
    unpacked.unpack(packed)
    assert [run.to_dictionary() for run in unpacked.runs] == before
    assert unpacked.pack("again.zip").read_bytes() == packed.read_bytes()


def test_the_origin_knows_its_own_runs(trained: Store, packed: Path) -> None:
    before = [run.to_dictionary() for run in trained.runs]
    trained.unpack(packed)
    assert [run.to_dictionary() for run in trained.runs] == before


def test_no_byte_names_the_machine(trained: Store, packed: Path, packed_models: Path) -> None:
    host = this_process().partition("/")[0].encode()
    places = [str(trained.folder).encode(), str(Path.home()).encode() + b"/", b"sqlite:", b"file:/"]
    for file in (packed, packed_models):
        assert not [place for place in places if place in file.read_bytes()]
        with ZipFile(file) as archive:
            for name in archive.namelist():
                content = archive.read(name)
                assert not [place for place in places if place in content], name
                if not name.endswith((".png", ".keras")):
                    assert not re.search(rb"(?<![\w-])" + re.escape(host) + rb"(?![\w-])", content), name


def test_the_same_grid_and_search_train_nothing_in_the_other_store(packed: Path, tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.unpack(packed)
    runs = len(store.runs)
    output = run_program(tmp_path, *GRID)
    assert output.count("finished (reused)") == 2 and "Epoch" not in output
    output = run_program(tmp_path, *SEARCH)
    assert "2 of 2 trials exist" in output and "Epoch" not in output
    assert len(store.runs) == runs


def _figures(store: Store, folder: Path) -> dict[str, str]:
    """The report's tables, with run ids as they were packed, and without the store's own address."""
    report(["--tracking-uri", store.uri, "--no-images", "--out", str(folder)])
    ids = {run.info.run_id: packed for packed, run in store.copies.items()}
    tables = {file.name: file.read_text().replace(store.uri, "") for file in folder.glob("*.csv")}
    assert tables
    for run_id, packed in ids.items():
        tables = {name: text.replace(run_id, packed).replace(run_id[:8], packed[:8]) for name, text in tables.items()}
    return {name: "\n".join(sorted(text.splitlines())) for name, text in tables.items()}


def test_the_report_shows_the_same_figures(trained: Store, unpacked: Store, tmp_path: Path) -> None:
    assert _figures(unpacked, tmp_path / "there") == _figures(trained, tmp_path / "here")


def test_predict_gives_the_reason_for_a_missing_model_until_it_is_unpacked(
    trained: Store, packed: Path, packed_models: Path, empty: Store, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    empty.unpack(packed)
    original = next(run for run in trained.children if run.data.params["reg.name"] == "l1")
    copy = empty.copies[original.info.run_id]
    Image.new("RGB", (32, 32), "green").save(tmp_path / "leaf.png")
    words = [str(tmp_path / "leaf.png"), "--json", "--tracking-uri"]
    with pytest.raises(SystemExit):
        predict([copy.info.run_id, *words, empty.uri])
    assert "has no model: not packed. Pack it with --models all" in capsys.readouterr().err
    runs = len(empty.runs)
    empty.unpack(packed_models)
    assert len(empty.runs) == runs
    capsys.readouterr()
    answers = []
    for run, store in ((copy, empty), (original, trained)):
        assert predict([run.info.run_id, *words, store.uri]) == 0
        answers.append(json.loads(capsys.readouterr().out)["probabilities"])
    assert answers[0] == pytest.approx(answers[1])
    empty.unpack(packed)
    after = empty.client.get_run(copy.info.run_id)
    assert "beans.model" not in after.data.tags and len(after.outputs.model_outputs) == 1


def test_best_packs_one_model_for_each_sweep(trained: Store) -> None:
    with ZipFile(trained.pack("best.zip", "--models", "best")) as file:
        models = [name for name in file.namelist() if name.endswith("model.keras")]
    assert len(models) == len(trained.parents) == 2


def test_one_sweep_is_packed_alone(trained: Store, empty: Store) -> None:
    grid = next(run for run in trained.parents if "beans.jobs" in run.data.tags)
    empty.unpack(trained.pack("sweep.zip", "--sweep", grid.info.run_id[:8]))
    assert len(empty.parents) == 1
    assert {run.data.params["reg.name"] for run in empty.children} == {"l1", "l2"}
