"""A point of a grid or a search: what its words mean once they are composed, reduced and resolved."""

from dataclasses import dataclass

from beans_exp.data import Source, source
from beans_exp.errors import ConfigError
from beans_exp.fingerprint import fingerprint
from beans_exp.schema import Config, Inert, SweepConfig, reduce
from beans_exp.schema.precision import resolve_precision


@dataclass(frozen=True)
class Point:
    """The words of a job and what they mean: its reduced and resolved configuration, and what that is."""

    overrides: list[str]
    config: Config
    fingerprint: str
    inert: list[Inert]
    """The options that were asked for and cannot act."""
    precision_was_auto: bool


class Points:
    """From composed configurations to points; each data set is looked at once."""

    def __init__(self) -> None:
        self.sources: dict[str, Source] = {}

    def of(self, overrides: list[str], given: Config) -> Point:
        """Return what `given` means; raises ConfigError for what cannot be run, DataError for missing data."""
        if given.sweep != SweepConfig() or given.features.blocks:
            raise ConfigError("sweep.* and features.blocks are written by the sweeper, not by hand. Leave them out")
        reduced, inert = reduce(given)
        config = resolve_precision(reduced)
        mark = fingerprint(config, self.source(config))
        return Point(overrides, config, mark, inert, precision_was_auto=config != reduced)

    def source(self, config: Config) -> Source:
        """Return the data set of `config`."""
        key = repr(config.data)
        self.sources[key] = self.sources.get(key) or source(config.data)
        return self.sources[key]
