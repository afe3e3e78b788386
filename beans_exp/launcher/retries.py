"""Which failed jobs are tried again, and with which overrides."""

from collections.abc import Callable, Sequence

from omegaconf import DictConfig

from beans_exp.errors import StorageError
from beans_exp.launcher.diagnosis import JobError

Shrink = Callable[[DictConfig], Sequence[str]]
"""From a job's configuration to overrides with which it needs less memory; empty if it cannot need less."""


def changes_for_retry(
    error: BaseException | None, compose: Callable[[], DictConfig], shrink: Shrink | None
) -> list[str] | None:
    """Return the overrides to change before a job that ended with `error` is retried; None if it is not.

    A job that was killed, or whose disk failed, is retried unchanged, one that ran out of memory as `shrink` makes it.
    Any other error would recur.
    """
    if isinstance(error, StorageError):
        return []
    if not isinstance(error, JobError):
        return None
    if error.kind == "killed":
        return []
    if error.kind == "oom" and shrink is not None:
        return list(shrink(compose())) or None
    return None


def with_changes(overrides: Sequence[str], changes: Sequence[str]) -> list[str]:
    """Return `overrides` with those of `changes` (`key=value`) in place of any on the same keys."""
    keys = tuple(f"{change.partition('=')[0]}=" for change in changes)
    kept = [override for override in overrides if not override.lstrip("+").startswith(keys)]
    return [*kept, *(f"++{change}" for change in changes)]
