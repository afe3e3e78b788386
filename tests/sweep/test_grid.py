"""Grids: how they are composed, and what they leave in MLflow and on disk."""

import csv
import io
import signal
from pathlib import Path
from unittest.mock import Mock

import mlflow
import pytest
from hydra.core.config_loader import ConfigLoader
from hydra.errors import ConfigCompositionException
from hydra.types import RunMode
from mlflow.entities import Run

from beans_exp.schema import to_config
from beans_exp.sweep.grid import compose_grid
from tests.conftest import TINY, Started
from tests.driver import Driver

pytestmark = pytest.mark.xdist_group("grid")  # one driver for all

SMALL = [*TINY, "kernel.filters=[2,2,4]", "trainer.epochs=1", "tracking.save_model=none"]


def _client() -> mlflow.MlflowClient:
    return mlflow.MlflowClient(f"sqlite:///{Path('mlruns/mlflow.db').resolve()}")


def _runs() -> list[Run]:
    experiment = _client().get_experiment_by_name("beans_exp")
    assert experiment is not None
    return list(_client().search_runs([experiment.experiment_id]))


def _jobs(parent: Run) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(mlflow.artifacts.load_text(f"{parent.info.artifact_uri}/jobs.csv"))))


def test_a_grid_is_one_parent_with_a_child_and_a_folder_per_job(quick: Driver) -> None:
    overrides = ["-m", *SMALL, "model=lenet", "reg=l1,l2,dropout"]
    first = quick.run(*overrides)
    assert first.returncode == 0, first.stderr
    runs = _runs()
    (parent,) = (run for run in runs if run.data.tags.get("beans.role") == "sweep")
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert len(runs) == 4
    assert {run.data.params["reg.name"] for run in children} == {"l1", "l2", "dropout"}
    assert {run.info.status for run in runs} == {"FINISHED"}
    fingerprints = {run.data.tags["beans.fingerprint"]: run.info.run_id for run in children}
    rows = _jobs(parent)
    assert {row["fingerprint"]: row["run_id"] for row in rows} == fingerprints
    assert {(row["status"], row["origin"]) for row in rows} == {("finished", "trained")}
    (folder,) = Path("outputs/sweeps").iterdir()
    assert folder.name == parent.data.tags["beans.sweep"]
    assert {item.name for item in folder.iterdir() if item.is_dir()} == set(fingerprints)
    for number, reg in enumerate(("l1", "l2", "dropout"), start=1):
        assert f"job {number} of 3: " in first.stdout
        assert f"reg={reg}" in first.stdout
    assert "python -m beans_exp.ui" in first.stdout
    _require_reused(quick, overrides, parent)


def _require_reused(quick: Driver, overrides: list[str], parent: Run) -> None:
    """The same command finds the same parent, and trains nothing."""
    again = quick.run(*overrides)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("finished (reused)") == 3
    assert "Epoch" not in again.stdout
    assert len(_runs()) == 4
    assert {row["origin"] for row in _jobs(parent)} == {"reused"}


@pytest.mark.parametrize("n_jobs", [0, 1000])
def test_an_invalid_launcher_option_is_an_error_before_anything_is_written(quick: Driver, n_jobs: int) -> None:
    ended = quick.run("-m", *TINY, "reg=l1,l2", f"hydra.launcher.n_jobs={n_jobs}")
    assert ended.returncode == 1
    assert f"hydra.launcher.n_jobs={n_jobs}" in ended.stderr and "Traceback" not in ended.stderr
    assert not Path("mlruns").exists() and not Path("outputs").exists()


def test_a_terminated_grid_closes_its_parent(started: Started, tmp_path: Path) -> None:
    process = started("-m", *SMALL, "trainer.epochs=100000", "reg=l1,l2", until="Epoch 2/")
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 128 + signal.SIGTERM
    printed = (tmp_path / "log").read_text()
    assert "Traceback" not in printed
    assert "not run" in printed
    runs = _runs()
    assert {run.info.status for run in runs} == {"KILLED"}
    assert len(runs) == 2


@pytest.mark.parametrize("launcher", ["isolated", "basic", "joblib"])
def test_a_job_that_fails_costs_only_itself(launcher: str, quick: Driver) -> None:
    overrides = ["-m", *SMALL, "trainer.optimizer=sgd", "trainer.learning_rate=1e38,0.01"]
    callback = "+hydra.callbacks.note._target_=tests.sweep.ended.NoteEnd"
    ended = quick.run(*overrides, f"hydra/launcher={launcher}", callback)
    assert ended.returncode == 1
    assert Path("ended").exists(), "Hydra's callbacks are called all the same"
    assert "trainer.learning_rate=1e+38: the loss became" in ended.stdout
    assert "Traceback" not in ended.stdout + ended.stderr
    statuses = {
        run.data.tags.get("beans.role", run.data.params.get("trainer.learning_rate")): run.info.status
        for run in _runs()
    }
    assert statuses == {"sweep": "FAILED", "1.0e+38": "FAILED", "0.01": "FINISHED"}


def test_a_grid_is_composed_as_by_hydra_with_its_files_read_once_per_choice(
    loader: ConfigLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = loader.load_configuration("config", [*TINY], RunMode.MULTIRUN)
    grid = [
        [f"reg={reg}", f"reg.l2={weight}", f"kernel.filters={filters}", f"seed={seed}", "model=lenet"]
        for reg in ("l2", "l1_l2")
        for weight in ("0.1", "1e-3")
        for filters in ("[2,2,4]", "[4,4,8]")
        for seed in (0, 1)
    ]
    expected = [to_config(loader.load_sweep_config(config, overrides)) for overrides in grid]
    read = Mock(wraps=loader.load_sweep_config)
    monkeypatch.setattr(loader, "load_sweep_config", read)
    assert [point.config for point in compose_grid(loader, config, grid)] == expected
    assert read.call_count == 2, "once per regularizer"


def test_a_value_of_the_wrong_type_has_hydras_message(loader: ConfigLoader) -> None:
    config = loader.load_configuration("config", [*TINY], RunMode.MULTIRUN)
    with pytest.raises(ConfigCompositionException, match="seed=some"):
        list(compose_grid(loader, config, [["seed=0"], ["seed=some"]]))
