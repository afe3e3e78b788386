"""A point of a grid or a search: its overrides, and the run that they describe once composed, reduced and resolved."""

from dataclasses import dataclass

from beans_exp.data import Source, require_test, source
from beans_exp.errors import ConfigError
from beans_exp.fingerprint import fingerprint
from beans_exp.schema import Config, Inert, SweepConfig, reduce
from beans_exp.schema.precision import resolve_precision


@dataclass(frozen=True)
class Point:
    """The overrides of a job, its reduced and resolved configuration, and the fingerprint of that."""

    overrides: list[str]
    config: Config
    fingerprint: str
    inert: list[Inert]
    """The options that were given and have no effect."""
    precision_was_auto: bool


class Points:
    """Makes points from composed configurations; reads each data set's facts once."""

    def __init__(self) -> None:
        self.sources: dict[str, Source] = {}

    def resolve(self, overrides: list[str], composed: Config) -> Point:
        """Return the point that `composed` describes.

        Raises ConfigError for a configuration that cannot be run, DataError for missing data.
        """
        if composed.sweep != SweepConfig() or composed.features.blocks:
            raise ConfigError("sweep.* and features.blocks are set by the sweeper, not by hand. Leave them out")
        reduced, inert = reduce(composed)
        config = resolve_precision(reduced)
        precision_was_auto = config != reduced
        described = self.source(config)
        require_test(config, described)
        return Point(overrides, config, fingerprint(config, described), inert, precision_was_auto)

    def source(self, config: Config) -> Source:
        """Return the data set of `config`."""
        key = repr(config.data)
        self.sources[key] = self.sources.get(key) or source(config.data)
        return self.sources[key]
