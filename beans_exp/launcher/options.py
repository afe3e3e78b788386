"""The options of the isolated launcher, and their rules."""

import os
from dataclasses import dataclass

from beans_exp.schema.rules import at_least, broken, one_of, positive


@dataclass
class Options:
    """`hydra.launcher` of the isolated launcher; raises ConfigError for a value that breaks a rule.

    Not frozen, for OmegaConf would let nobody override a key.
    """

    n_jobs: int = 1
    """Jobs at once; the cores are divided among them."""
    timeout: float | None = None
    """Seconds a job may take; it ends as killed, and resumes when the sweep is run again."""
    memory_gb: float | None = None
    """10^9 bytes a job may use; it ends as oom beyond them."""
    on_error: str = "continue"
    """`stop`: once a job has failed, no more are started."""
    max_failures: int | None = None
    """Jobs that may fail before no more are started."""
    retries: int = 1
    """Of a job that was killed (from its checkpoint) or ran out of memory (with half the microbatch)."""

    def __post_init__(self) -> None:
        cores = len(usable_cores())
        if not 1 <= self.n_jobs <= cores:
            raise broken("hydra.launcher.n_jobs", self.n_jobs, f"1 to {cores}, the cores of this machine")
        positive("hydra.launcher.timeout", self.timeout)
        positive("hydra.launcher.memory_gb", self.memory_gb)
        one_of("hydra.launcher.on_error", self.on_error, ("continue", "stop"))
        at_least("hydra.launcher.max_failures", self.max_failures, 0)
        at_least("hydra.launcher.retries", self.retries, 0)
        if self.on_error == "stop" and self.max_failures is not None:
            raise broken("hydra.launcher.max_failures", self.max_failures, "null with on_error=stop, which allows none")

    @property
    def allowed_failures(self) -> float:
        """How many jobs may fail before no more are started."""
        if self.on_error == "stop":
            return 0
        return float("inf") if self.max_failures is None else self.max_failures


def usable_cores() -> tuple[int, ...]:
    """Return the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))
