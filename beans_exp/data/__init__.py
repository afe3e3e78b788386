"""Data sets: `source` describes one without NumPy or TensorFlow, `load` resizes its images once for all runs."""

from dataclasses import dataclass

from beans_exp.data.source import SPLITS, Source
from beans_exp.data.split import Split
from beans_exp.schema import Config, DataConfig


@dataclass(frozen=True)
class Data:
    """The data set that a run is trained and evaluated on."""

    source: Source
    image_size: int
    train: Split
    validation: Split
    test: Split

    @property
    def classes(self) -> tuple[str, ...]:
        return self.source.classes


def source(config: DataConfig) -> Source:
    """Describe the data set that `config` names.

    Raises DataError, within seconds, if it is missing or incomplete.
    """
    if config.name == "beans":
        from beans_exp.data.tfds import beans_source

        return beans_source(config.data_dir)
    if config.name == "folder":
        from beans_exp.data.folder import folder_source

        return folder_source(str(config.data_dir))
    from beans_exp.data.synthetic import synthetic_source

    return synthetic_source(config)


def load(config: Config, described: Source) -> Data:
    """Return the splits at `data.image_size`, the training split reduced to `data.train_fraction`.

    Raises DataError for images that cannot be read and for a cache that cannot be written.
    """
    from beans_exp.data.batches import stratified
    from beans_exp.data.prepared import prepare

    command = f"{config.sweep.id} {config.sweep.opened}" if config.sweep.opened else ""
    splits = prepare(described, config.data.image_size, config.data.cache_dir, command)
    train = stratified(splits["train"], config.data.train_fraction, config.seed)
    return Data(described, config.data.image_size, train, splits["validation"], splits["test"])


__all__ = ["SPLITS", "Data", "Source", "Split", "load", "source"]
