"""Studies that travel: trials read from one storage and merged into another, once."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from beans_exp.errors import StoreError
from beans_exp.hpo.packed_study import PackedStudy, merge_study, read_study, require_mergeable, trials_table
from beans_exp.hpo.study import DESCRIPTION
from beans_exp.tracking.packed_file import from_json, to_json

NAME = "search"
RUN = "0123456789abcdef" * 2
DISTRIBUTIONS = {
    "kernel": CategoricalDistribution(["k3", None, 5]),
    "reg.l2": FloatDistribution(1e-5, 1.0, log=True),
    "finetune.blocks": IntDistribution(0, 12),
}


@pytest.fixture
def url(tmp_path: Path) -> Callable[[str], str]:
    return lambda name: f"sqlite:///{tmp_path / name}.db"


def _study(url: str, description: str = "float 0..1", seed: int = 0) -> optuna.Study:
    """A study with a complete, a pruned, a failed and a running trial."""
    study = optuna.create_study(storage=url, study_name=NAME, sampler=optuna.samplers.RandomSampler(seed))
    study.set_user_attr(DESCRIPTION, {"reg.l2": description})
    for state in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, None):
        trial = study.ask(DISTRIBUTIONS)
        trial.set_user_attr("beans.process", "some-host/1/2")
        trial.set_user_attr("beans.beat", 1.5)
        trial.set_user_attr("beans.run", RUN)
        trial.set_user_attr("own", "/home/x")
        trial.report(float("inf"), 1)
        if state is not None:
            study.tell(trial, 0.5 if state == TrialState.COMPLETE else None, state)
    return study


def _travelled(url: str) -> PackedStudy:
    found = read_study(url, NAME, 4)
    assert found is not None
    return PackedStudy.of(from_json(to_json(found.plain())))


def test_ended_trials_are_the_same_in_the_other_storage(url: Callable[[str], str]) -> None:
    before = _study(url("a")).trials[:3]
    assert merge_study(url("b"), _travelled(url("a")), {RUN: "new"}) == 3
    after = optuna.load_study(storage=url("b"), study_name=NAME)
    assert after.user_attrs[DESCRIPTION] == {"reg.l2": "float 0..1"}
    for trial, copy in zip(before, after.trials, strict=True):
        for name in ("state", "values", "params", "distributions", "intermediate_values", "datetime_start"):
            assert getattr(copy, name) == getattr(trial, name)
        assert copy.datetime_complete == trial.datetime_complete
        assert copy.user_attrs == {"beans.run": "new"}
    assert trials_table(url("b"), NAME).count("\n") == 4


def test_two_storages_are_merged_once(url: Callable[[str], str]) -> None:
    _study(url("a"))
    _study(url("b"), seed=1)
    assert [merge_study(url("a"), _travelled(url("b")), {}) for _ in range(2)] == [3, 0]
    assert merge_study(url("b"), _travelled(url("a")), {}) == 3
    states = [trial.state.name for trial in optuna.load_study(storage=url("a"), study_name=NAME).trials]
    assert sorted(states) == sorted(["COMPLETE", "PRUNED", "FAIL"] * 2 + ["RUNNING"])


def test_a_study_of_another_search_is_refused(url: Callable[[str], str]) -> None:
    _study(url("a"))
    _study(url("b"), description="float 0..2")
    with pytest.raises(StoreError, match=r"its study search must be of the same search as .*\. Set --storage"):
        require_mergeable(url("b"), _travelled(url("a")))
    require_mergeable(url("b"), replace(_travelled(url("a")), description=None))
    with pytest.raises(StoreError, match="must be of the same search"):
        require_mergeable(url("a"), replace(_travelled(url("a")), directions=["maximize"]))
    require_mergeable(url("none"), _travelled(url("a")))


def test_a_missing_storage_or_study_is_not_created(url: Callable[[str], str], tmp_path: Path) -> None:
    assert read_study(url("none"), NAME, 1) is None
    assert not list(tmp_path.glob("none*"))
    _study(url("a"))
    assert read_study(url("a"), "other", 1) is None
    assert optuna.get_all_study_names(url("a")) == [NAME]


def test_a_file_that_is_no_storage_is_one_message(tmp_path: Path, url: Callable[[str], str]) -> None:
    (tmp_path / "a.db").write_text("no database, however long this text may be")
    with pytest.raises(StoreError, match=r"--storage sqlite:///.*a\.db cannot be used .* Set another one"):
        read_study(url("a"), NAME, 1)


def test_pickled_state_of_a_sampler_does_not_travel(url: Callable[[str], str]) -> None:
    study = optuna.create_study(storage=url("a"), study_name=NAME)
    trial = study.ask({"x": FloatDistribution(0, 1)})
    trial_id = trial.storage.get_trial_id_from_study_id_trial_number(
        trial.storage.get_study_id_from_name(NAME), trial.number
    )
    for key in ("cma:optimizer:0", "grid_id", "completed_rung_0"):
        trial.storage.set_trial_system_attr(trial_id, key, "80049503")
    study.tell(trial, 0.5)
    packed = _travelled(url("a"))
    assert set(packed.trials[0]["system"]) == {"grid_id", "completed_rung_0"}
    packed.trials[0]["system"]["cma:optimizer:0"] = "80049503"  # put there by hand
    merge_study(url("b"), packed, {})
    (copy,) = optuna.load_study(storage=url("b"), study_name=NAME).trials
    assert set(copy.system_attrs) == {"grid_id", "completed_rung_0"}


def test_a_quasi_random_sequence_continues_after_the_later_position(url: Callable[[str], str]) -> None:
    for name, position in (("a", 7), ("b", 3)):
        optuna.create_study(storage=url(name), study_name=NAME)
        storage = optuna.storages.get_storage(url(name))
        storage.set_study_system_attr(storage.get_study_id_from_name(NAME), "qmc:x", position)
        storage.set_study_system_attr(storage.get_study_id_from_name(NAME), "other", "no")
    assert _travelled(url("a")).positions == {"qmc:x": 7}
    merge_study(url("b"), _travelled(url("a")), {})
    assert _travelled(url("b")).positions == {"qmc:x": 7}
    merge_study(url("a"), replace(_travelled(url("b")), positions={"qmc:x": 1}), {})
    assert _travelled(url("a")).positions == {"qmc:x": 7}


@pytest.mark.parametrize(
    "change",
    [
        {"directions": ["sideways"]},
        {"directions": []},
        {"name": 1},
        {"wanted": "4"},
        {"description": {"a": 1}},
        {"positions": {"cma:": 1}},
        {"trials": [{}]},
        {"more": 1},
    ],
    ids=str,
)
def test_a_study_that_cannot_be_is_refused(change: dict[str, Any], url: Callable[[str], str]) -> None:
    _study(url("a"))
    with pytest.raises(ValueError, match="hold an Optuna study"):
        PackedStudy.of(_travelled(url("a")).plain() | change)


@pytest.mark.parametrize(
    "change",
    [
        {"state": "RUNNING"},
        {"state": "LOST"},
        {"values": None},
        {"values": ["0.5", "0.5"]},
        {"ended": None},
        {"started": "yesterday"},
        {"params": {"reg.l2": 7.0}},
        {"distributions": {"reg.l2": {"name": "os.system", "attributes": {}}}},
        {"intermediate": {"x": "1"}},
    ],
    ids=str,
)
def test_a_trial_that_cannot_be_is_refused(change: dict[str, Any], url: Callable[[str], str]) -> None:
    _study(url("a"))
    plain = _travelled(url("a")).plain()
    plain["trials"][0] |= change
    with pytest.raises(ValueError, match="hold an Optuna study"):
        PackedStudy.of(plain)
