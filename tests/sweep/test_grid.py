"""Grids: what a plan makes of its points, and what a grid leaves in MLflow and on disk."""

import csv
import io
import signal
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import mlflow
import pytest
from hydra.core.config_loader import ConfigLoader
from hydra.errors import ConfigCompositionException
from hydra.types import RunMode

from beans_exp.errors import ConfigError
from beans_exp.schema import Config, TrackingConfig, to_config
from beans_exp.sweep.grid import compose_grid
from beans_exp.sweep.plan import GridPoint, Plan, plan_grid
from beans_exp.tracking.parent_run import ParentRun, open_parent
from beans_exp.tracking.store import open_store, store_uri
from tests.conftest import TINY, Program, Started

Composed = Callable[..., Config]


def _plan(composed: Composed, *points: list[str]) -> Plan:
    return plan_grid([GridPoint(words, composed(*TINY, *words)) for words in points])


def test_equal_points_run_once(composed: Composed) -> None:
    plan = _plan(composed, ["reg=l2"], ["reg.l2=0.01"], ["reg=none"])
    assert (plan.requested, len(plan.jobs)) == (3, 2)
    assert [job.label for job in plan.jobs] == ["reg=l2", "reg=none"]


def test_a_point_whose_option_cannot_act_is_reduced_and_said(composed: Composed) -> None:
    points = [
        [f"model={model}", f"kernel={kernel}"] for model in ("lenet", "lenet5") for kernel in ("k5", "factorized")
    ]
    plan = _plan(composed, *points)
    assert (plan.requested, len(plan.jobs)) == (4, 3)
    assert plan.dropped == [
        "kernel.factorized=true has no effect: only model=lenet uses kernel (model=lenet5 has fixed kernels)"
    ]


def test_an_option_that_acts_nowhere_is_an_error(composed: Composed) -> None:
    points = [[f"model={model}", f"finetune={depth}"] for model in ("lenet", "lenet5") for depth in ("none", "top2")]
    with pytest.raises(ConfigError, match=r"finetune\.blocks=2 has no effect.*no point of the grid"):
        _plan(composed, *points)


@pytest.mark.parametrize("words", [["tracking.experiment=a"], ["objective.name=test/accuracy"], ["plan=true"]])
def test_what_belongs_to_the_sweep_cannot_vary(words: list[str], composed: Composed) -> None:
    with pytest.raises(ConfigError, match="differs between the points"):
        _plan(composed, [], words)


def test_a_sweep_is_its_set_of_runs(composed: Composed) -> None:
    plan = _plan(composed, ["reg=l1"], ["reg=l2"])
    assert plan.id == _plan(composed, ["reg=l2"], ["reg=l1"], ["reg.l1=0.01"]).id
    assert plan.id != _plan(composed, ["reg=l1"]).id
    elsewhere = ["tracking.experiment=other"]
    assert plan.id != _plan(composed, ["reg=l1", *elsewhere], ["reg=l2", *elsewhere]).id


SAME = [["trainer.test=false"], ["trainer.microbatch=8"], ["tracking.save_model=none"], ["run_name=x"], ["reg.name=x"]]
OTHER = [
    ["seed=1"],
    ["data.draw_seed=1"],
    ["data.image_size=48"],
    ["data.train_fraction=0.5"],
    ["trainer.epochs=3"],
    ["trainer.select=best"],
    ["trainer.precision=bfloat16"],
    ["reg.augment=[flip]"],
    ["kernel.filters=[6,16,60]"],
]


@pytest.mark.parametrize(("words", "same"), [*((words, True) for words in SAME), *((words, False) for words in OTHER)])
def test_the_fingerprint_is_what_decides_the_result(words: list[str], same: bool, composed: Composed) -> None:
    plain, changed = (_plan(composed, given).jobs[0].fingerprint for given in ([], words))
    assert (plain == changed) == same


def _jobs(client: mlflow.MlflowClient, parent: str) -> list[dict[str, str]]:
    return list(
        csv.DictReader(io.StringIO(mlflow.artifacts.load_text(f"{client.get_run(parent).info.artifact_uri}/jobs.csv")))
    )


def test_a_grid_is_one_parent_with_a_child_and_a_folder_for_each_job(program: Program, composed: Composed) -> None:
    words = ["-m", *TINY, "trainer.epochs=1", "model=lenet", "kernel.filters=[2,2,4]", "reg=l1,l2,dropout"]
    first = program(*words)
    assert first.returncode == 0, first.stderr
    config = composed(*TINY)
    client = mlflow.MlflowClient(store_uri(config.tracking))
    experiment = client.get_experiment_by_name("beans_exp")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = (run for run in runs if run.data.tags.get("beans.role") == "sweep")
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert len(runs) == 4
    assert {run.data.params["reg.name"] for run in children} == {"l1", "l2", "dropout"}
    assert {run.info.status for run in runs} == {"FINISHED"}
    fingerprints = {run.data.tags["beans.fingerprint"]: run.info.run_id for run in children}
    rows = _jobs(client, parent.info.run_id)
    assert {row["fingerprint"]: row["run_id"] for row in rows} == fingerprints
    assert {(row["status"], row["origin"]) for row in rows} == {("finished", "trained")}
    (folder,) = Path("outputs/sweeps").iterdir()
    assert folder.name == parent.data.tags["beans.sweep"]
    assert {item.name for item in folder.iterdir() if item.is_dir()} == set(fingerprints)
    for number, reg in enumerate(("l1", "l2", "dropout"), start=1):
        assert f"job {number} of 3: " in first.stdout
        assert f"reg={reg}" in first.stdout
    assert "mlflow server" in first.stdout
    _require_found_again(program, words, client, parent.info.run_id)


def _require_found_again(program: Program, words: list[str], client: mlflow.MlflowClient, parent: str) -> None:
    """The same command finds the same parent, and nothing is trained."""
    again = program(*words)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("finished (reused)") == 3
    assert "Epoch" not in again.stdout
    experiment_id = client.get_run(parent).info.experiment_id
    assert len(client.search_runs([experiment_id])) == 4
    assert {row["origin"] for row in _jobs(client, parent)} == {"reused"}


@pytest.fixture
def parent() -> ParentRun:
    uri = store_uri(TrackingConfig())
    return open_parent(uri, "outcomes", open_store(uri, "outcomes"), "sweep", "name", Path())


def _run(parent: ParentRun, status: str, before: bool) -> str:
    """A run of the fingerprint `mark` that ended with `status`, `before` or after the parent was opened."""
    started = (
        int(parent.opened) + (-60_000 if before else 60_000) + len(parent.client.search_runs([parent.experiment_id]))
    )
    tags = {"beans.fingerprint": "mark", "beans.status": status, "beans.sweep": parent.sweep_id}
    run_id = parent.client.create_run(parent.experiment_id, start_time=started, tags=tags).info.run_id
    ended = {"finished": "FINISHED", "killed": "KILLED", "pruned": "KILLED"}.get(status, "FAILED")
    parent.client.set_terminated(run_id, ended, end_time=started + 1)
    return run_id


@pytest.mark.parametrize(
    ("runs", "completed", "status", "trained"),
    [
        ([("finished", False)], [True], "finished", True),
        ([("finished", True)], [True], "finished", False),
        ([("finished", True), ("killed", True)], [True], "finished", False),
        ([("finished", True)], [False], "failed", False),
        ([("finished", True), ("diverged", False)], [False], "diverged", True),
        ([("finished", True)], [], "not run", False),
        ([("pruned", True)], [False], "pruned", False),
        ([], [False], "failed", False),
    ],
)
def test_an_outcome_is_what_this_command_did(
    runs: list[tuple[str, bool]], completed: list[bool], status: str, trained: bool, parent: ParentRun
) -> None:
    ids = {words: _run(parent, *words) for words in runs}
    (outcome,) = parent.outcomes(["mark"], completed)
    assert (outcome.status, outcome.trained) == (status, trained)
    if outcome.run_id:
        assert outcome.run_id == ids[(status, not trained)]


@pytest.mark.parametrize(
    ("kind", "before", "named"), [("timeout", False, True), ("timeout", True, False), ("killed", False, False)]
)
def test_a_job_that_was_told_to_end_is_told_why(kind: str, before: bool, named: bool, parent: ParentRun) -> None:
    run_id = _run(parent, "killed", before)
    parent.close_run("mark", kind, "it took longer than hydra.launcher.timeout=8 seconds")
    run = parent.client.get_run(run_id)
    assert run.data.tags["beans.status"] == "killed"
    assert ("it took longer" in run.data.tags.get("beans.cause", "")) == named


def test_a_launcher_that_cannot_be_is_named_before_anything_is_written(program: Program) -> None:
    ended = program("-m", *TINY, "reg=l1,l2", "hydra.launcher.n_jobs=1000")
    assert ended.returncode == 1
    assert "hydra.launcher.n_jobs=1000" in ended.stderr and "Traceback" not in ended.stderr
    assert not Path("mlruns").exists() and not Path("outputs").exists()


def test_a_terminated_grid_closes_its_parent(started: Started, tmp_path: Path) -> None:
    process = started("-m", *TINY, "trainer.epochs=100000", "reg=l1,l2", until="Epoch 2/")
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 128 + signal.SIGTERM
    printed = (tmp_path / "log").read_text()
    assert "Traceback" not in printed
    assert "not run" in printed
    client = mlflow.MlflowClient(f"sqlite:///{Path('mlruns/mlflow.db').resolve()}")
    experiment = client.get_experiment_by_name("beans_exp")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert {run.info.status for run in runs} == {"KILLED"}
    assert len(runs) == 2


@pytest.mark.parametrize("launcher", ["isolated", "basic", "joblib"])
def test_a_job_that_fails_costs_itself_alone(launcher: str, program: Program) -> None:
    words = ["-m", *TINY, "trainer.epochs=1", "trainer.optimizer=sgd", "trainer.learning_rate=1e38,0.01"]
    ended = program(*words, f"hydra/launcher={launcher}")
    assert ended.returncode == 1
    assert "trainer.learning_rate=1e+38: the loss became" in ended.stdout
    assert "Traceback" not in ended.stdout + ended.stderr
    client = mlflow.MlflowClient(f"sqlite:///{Path('mlruns/mlflow.db').resolve()}")
    experiment = client.get_experiment_by_name("beans_exp")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    statuses = {
        run.data.tags.get("beans.role", run.data.params.get("trainer.learning_rate")): run.info.status for run in runs
    }
    assert statuses == {"sweep": "FAILED", "1.0e+38": "FAILED", "0.01": "FINISHED"}


def test_a_grid_is_composed_as_hydra_would_and_its_files_read_once_for_each_choice(
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
    expected = [to_config(loader.load_sweep_config(config, words)) for words in grid]
    read = Mock(wraps=loader.load_sweep_config)
    monkeypatch.setattr(loader, "load_sweep_config", read)
    assert [asked.config for asked in compose_grid(loader, config, grid)] == expected
    assert read.call_count == 2, "once for each regularizer"


def test_a_value_that_does_not_fit_has_hydras_message(loader: ConfigLoader) -> None:
    config = loader.load_configuration("config", [*TINY], RunMode.MULTIRUN)
    with pytest.raises(ConfigCompositionException, match="seed=some"):
        list(compose_grid(loader, config, [["seed=0"], ["seed=some"]]))
