"""Which failed jobs are retried, and with which overrides."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from hydra.core.utils import JobStatus
from omegaconf import DictConfig, OmegaConf

from beans_exp.errors import ConfigError, StorageError
from beans_exp.launcher.diagnosis import JobError
from beans_exp.launcher.retries import changes_for_retry, with_changes
from beans_exp.sweep.microbatch import halve_microbatch
from tests.launcher.conftest import RunJobs

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")


@pytest.mark.parametrize(
    ("error", "trainer", "changes"),
    [
        (JobError("killed", ""), {"batch_size": 32}, []),
        (JobError("oom", ""), {"batch_size": 32}, ["trainer.microbatch=16"]),
        (JobError("oom", ""), {"batch_size": 32, "microbatch": 3}, ["trainer.microbatch=1"]),
        (JobError("oom", ""), {"batch_size": 32, "microbatch": 1}, None),
        (JobError("oom", ""), {}, None),
        (JobError("failed", ""), {"batch_size": 32}, None),
        (JobError("timeout", ""), {"batch_size": 32}, None),
        (ConfigError(""), {"batch_size": 32}, None),
        (StorageError("disk full"), {"batch_size": 32}, []),
        (None, {"batch_size": 32}, None),
    ],
)
def test_a_job_is_retried_unless_it_would_fail_the_same_way(
    error: BaseException | None, trainer: dict[str, int], changes: list[str] | None
) -> None:
    config = OmegaConf.create({"trainer": trainer} if trainer else {})
    assert changes_for_retry(error, lambda: config, halve_microbatch) == changes


def test_a_job_that_cannot_be_made_smaller_is_not_retried_when_out_of_memory() -> None:
    assert changes_for_retry(JobError("oom", ""), OmegaConf.create, shrink=None) is None


def test_changes_replace_the_overrides_on_the_same_keys() -> None:
    overrides = ["model=lenet", "trainer.microbatch=8", "++trainer.microbatch=4", "trainer.batch_size=16"]
    changed = with_changes(overrides, ["trainer.microbatch=2"])
    assert changed == ["model=lenet", "trainer.batch_size=16", "++trainer.microbatch=2"]
    assert with_changes(overrides, []) == overrides


def _fail_once(config: DictConfig) -> Any:
    marker = Path(config.marker)
    if not marker.exists():
        marker.touch()
        if config.x == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        raise MemoryError
    return config.trainer.microbatch


@pytest.mark.parametrize(("x", "microbatch"), [(0, None), (1, 16)], ids=["killed", "oom"])
def test_a_retried_job_returns_its_result(x: int, microbatch: int | None, run_jobs: RunJobs, tmp_path: Path) -> None:
    overrides = [f"+marker={tmp_path / 'marker'}", "+trainer.microbatch=null", "+trainer.batch_size=32"]
    (result,) = run_jobs(_fail_once, [x], *overrides, shrink=halve_microbatch, retries=1)
    assert result.status == JobStatus.COMPLETED
    assert result.return_value == microbatch
