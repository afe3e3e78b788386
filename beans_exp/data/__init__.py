"""Data sets: `source` describes one without NumPy or TensorFlow, `load` resizes its images once for all runs."""

import logging
from dataclasses import dataclass

from beans_exp.data.pixels import PLAIN, Pixels, from_config
from beans_exp.data.source import SPLITS, Source
from beans_exp.data.split import Split
from beans_exp.errors import DataError
from beans_exp.schema import Config, DataConfig

log = logging.getLogger(__name__)

SHOWN = 5
"""Skipped files that the log names."""


@dataclass(frozen=True)
class Data:
    """The data set that a run is trained and evaluated on; `test` is empty where the data set has no test images."""

    source: Source
    image_size: int
    train: Split
    validation: Split
    test: Split
    pixels: Pixels = PLAIN
    skipped: tuple[tuple[str, str], ...] = ()
    """Files that are left out by `data.on_error=skip`, with the reasons."""

    @property
    def classes(self) -> tuple[str, ...]:
        return self.source.classes


def source(config: DataConfig) -> Source:
    """Describe the data set that `config` names.

    Raises DataError, within seconds, if it is missing or incomplete.
    """
    if config.name in ("beans", "tfds"):
        from beans_exp.data.tfds import BEANS, tfds_source

        return tfds_source(config.dataset or BEANS, config)
    if config.name == "folder":
        from beans_exp.data.folder import folder_source

        return folder_source(config)
    if config.name == "table":
        from beans_exp.data.table import table_source

        return table_source(config)
    from beans_exp.data.synthetic import synthetic_source

    return synthetic_source(config)


def require_test(config: Config, described: Source) -> None:
    """Raise DataError if `config` tests its model on a data set without test images."""
    if config.trainer.test and described.no_test:
        raise DataError(described.no_test)


def load(config: Config, described: Source) -> Data:
    """Return the splits at `data.image_size`, the training split reduced to `data.train_fraction`.

    Raises DataError for images that cannot be read, all in one message, unless they are to be skipped, and for a cache
    that cannot be written.
    """
    from beans_exp.data.batches import stratified
    from beans_exp.data.prepared import prepare, skipped_images

    require_test(config, described)
    pixels = from_config(config.data, described.decoder)
    where = (described, config.data.image_size, config.data.cache_dir, pixels)
    command = f"{config.sweep.id} {config.sweep.opened}" if config.sweep.opened else ""
    splits = prepare(*where, skip=config.data.on_error == "skip", command=command)
    skipped = (*described.refused.items(), *skipped_images(*where))
    _log_left_out(described, skipped)
    train = stratified(splits["train"], config.data.train_fraction, config.seed)
    return Data(described, config.data.image_size, train, splits["validation"], splits["test"], pixels, skipped)


def _log_left_out(described: Source, skipped: tuple[tuple[str, str], ...]) -> None:
    if described.ignored:
        named = ", ".join(f"{name} ({count})" for name, count in described.ignored.items())
        log.info("%s: ignored %d leftovers: %s", described.name, sum(described.ignored.values()), named)
    if skipped:
        named = ", ".join(name for name, _ in skipped[:SHOWN]) + (", …" if len(skipped) > SHOWN else "")
        log.warning("%s: skipped %d file(s), listed in skipped.csv of the run: %s", described.name, len(skipped), named)


__all__ = ["SPLITS", "Data", "Pixels", "Source", "Split", "load", "require_test", "source"]
