"""How the heavy libraries are imported: on the cores that a job reserved."""

import os

import pytest

from beans_exp.startup.imports import RESERVED_CORES, use_reserved_cores


@pytest.mark.parametrize(
    ("variables", "threads"),
    [
        ({"SLURM_CPUS_PER_TASK": "3"}, "3"),
        ({"OMP_NUM_THREADS": "1", "SLURM_CPUS_PER_TASK": "3"}, "1"),  # a Ray task within a Slurm job
        ({"OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "2"}, "2"),
        ({}, None),
    ],
)
def test_a_job_computes_on_the_cores_that_it_reserved(
    variables: dict[str, str], threads: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TF_NUM_INTRAOP_THREADS", *RESERVED_CORES):
        monkeypatch.setenv(name, "")  # restored at the end, whatever is set meanwhile
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    use_reserved_cores()
    assert os.environ.get("TF_NUM_INTRAOP_THREADS") == threads
