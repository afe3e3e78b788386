"""The dataclasses of the configuration groups, each with the rules on its own values."""

import os
import re
from dataclasses import dataclass, field
from typing import Any

from beans_exp.metrics import OBJECTIVES
from beans_exp.schema import names
from beans_exp.schema.python_source import find_module, source_digest
from beans_exp.schema.rules import at_least, between, broken, distinct, fraction, one_of, positive, without_password
from beans_exp.schema.shipped import MODELS, bases
from beans_exp.schema.signature import Signature, read_signature

SHIPPED = "beans_exp.models"
"""The package whose modules build the shipped models, each by a function of the module's name."""

EXPERIMENT_VARIABLE = "MLFLOW_EXPERIMENT_NAME"
STORES = ("sqlite:///", "http://", "https://", "postgresql", "mysql", "mssql")
"""Stores that MLflow supports; it no longer has a file store."""


@dataclass
class ModelConfig:
    name: str = "lenet"
    weights: str | None = None
    """Of a base: `imagenet`, the path of a weights file, or null (random weights, trained whole)."""
    top_block: str | None = None
    """Of a base: the last block kept; the head sits on it. null: the last block of all."""
    build: str | None = None
    """MODULE.FUNCTION, which returns an uncompiled Keras model; null: the function of the package that `name` names."""
    arch: str | None = None
    """A class of `keras.applications`, such as ResNet50; `name` is then a label."""
    backbone: bool = False
    """Whether the function `build` returns a base, which gets a head, blocks and stages like Inception's."""
    options: dict[str, Any] = field(default_factory=dict)
    """The parameters of the function that no other key fills; `schema.signature` checks them."""

    def __post_init__(self) -> None:
        self._check_build()
        if self.weights == "":
            raise broken("model.weights", "", "imagenet, the path of a weights file, or null")
        self.options = self.signature.checked(self.options)
        if self.blocks and self.is_base:
            self.top_block = self.blocks[-1] if self.top_block is None else self.top_block
            one_of("model.top_block", self.top_block, self.blocks)

    def _check_build(self) -> None:
        if self.build is None and self.backbone:
            raise broken("model.backbone", True, "left out where model.build is null")
        if self.build is None and self.arch is None:
            one_of("model.name", self.name, MODELS)
        if self.is_application:
            one_of("model.arch", self.arch, [name for name in bases() if name not in MODELS])
        if self.build is not None and self.name in MODELS:
            raise broken("model.name", self.name, f"a name of its own for model.build={self.build}")
        if self.build is not None and self.is_base != self.backbone:
            rule = "a function with a parameter classes, or model.backbone=true for a base, which has none"
            raise broken("model.build", self.build, rule)

    @property
    def is_application(self) -> bool:
        """Whether the model is one of `keras.applications`: no function of the package has its name."""
        return self.build is None and not (self.name in MODELS and find_module(f"{SHIPPED}.{self.name}"))

    @property
    def signature(self) -> Signature:
        """The signature of the function that builds the model."""
        function = "applications.application" if self.is_application else f"{self.name}.{self.name}"
        return read_signature(self.build or f"{SHIPPED}.{function}")

    @property
    def identity(self) -> str:
        """What names the model where its label does not count."""
        return str(self.arch) if self.is_application else self.name

    @property
    def source(self) -> str | None:
        """The identity of the code of a user's own function; None for shipped models, which `name` identifies."""
        return source_digest(self.build) if self.build else None

    @property
    def is_base(self) -> bool:
        """Whether the function returns a base, for a head of the project's; others return a whole classifier."""
        return not self.signature.takes("classes")

    @property
    def facts(self) -> dict[str, Any]:
        """What is known of the graph of a shipped base; empty for other models."""
        return bases().get(self.identity, {}) if self.build is None else {}

    @property
    def blocks(self) -> tuple[str, ...]:
        """The names of the blocks of a shipped base, bottom up without the stem; empty for other models."""
        return tuple(self.facts.get("blocks", ()))

    @property
    def pretrained(self) -> bool:
        """Whether training starts from a pre-trained base."""
        return self.weights is not None and self.is_base


@dataclass
class RegConfig:
    name: str = "none"
    l1: float = 0.0
    l2: float = 0.0
    dropout: float = 0.0
    augment: list[str] = field(default_factory=list)
    label_smoothing: float = 0.0
    aux_weight: float = 0.0

    def __post_init__(self) -> None:
        at_least("reg.l1", self.l1, 0)
        at_least("reg.l2", self.l2, 0)
        fraction("reg.dropout", self.dropout)
        fraction("reg.label_smoothing", self.label_smoothing)
        between("reg.aux_weight", self.aux_weight, 0, 1)
        for kind in self.augment:
            one_of("reg.augment", kind, names.AUGMENTATIONS)
        distinct("reg.augment", self.augment)


@dataclass
class KernelConfig:
    name: str = "k5"
    size: int = 5
    filters: list[int] = field(default_factory=lambda: [6, 16, 120])
    factorized: bool = False
    """Each 5x5 convolution as two 3x3."""

    def __post_init__(self) -> None:
        at_least("kernel.size", self.size, 1)
        if len(self.filters) != 3 or min(self.filters) < 1:
            raise broken("kernel.filters", self.filters, "three numbers of 1 or more, one per convolution")
        if self.factorized and self.size != 5:
            raise broken("kernel.size", self.size, "5 where kernel.factorized=true (a 5x5 becomes two 3x3)")


@dataclass
class FinetuneConfig:
    name: str = "none"
    blocks: int = 0
    """Blocks of the base unfrozen, counted down from `model.top_block`; the stem counts as the last one."""
    epochs: int = 6
    learning_rate: float = 1e-5
    schedule: str = "constant"

    def __post_init__(self) -> None:
        at_least("finetune.blocks", self.blocks, 0)
        at_least("finetune.epochs", self.epochs, 1)
        positive("finetune.learning_rate", self.learning_rate)
        one_of("finetune.schedule", self.schedule, names.SCHEDULES)


@dataclass
class DataConfig:
    name: str = "beans"
    data_dir: str | None = None
    """folder: the images' folder; beans, tfds: the TFDS folder (default: `TFDS_DATA_DIR`, ~/tensorflow_datasets)."""
    cache_dir: str | None = None
    """Where resized images are kept (default: $XDG_CACHE_HOME/beans_exp)."""
    image_size: int = 299
    train_fraction: float = 1.0
    """The fraction of the training split to use, stratified by class, drawn with `seed`."""
    train_images: int | None = None
    validation_images: int | None = None
    test_images: int | None = None
    draw_seed: int | None = None
    """synthetic only, like the three counts above: the seed of the drawn images."""
    file: str | None = None
    """table only: a CSV or Parquet file; the paths in it are relative to its folder."""
    path_column: str = "path"
    label_column: str = "label"
    split_column: str = "split"
    group: str | None = None
    """table only: the column whose equal values (a plant, a patient) stay in one split (default: `group`, if any)."""
    dataset: str | None = None
    """tfds only: NAME:VERSION or NAME/CONFIG:VERSION."""
    split: Any = None
    """Fractions of training, validation and test images for data without splits (default: 0.8, 0.1, 0.1), or the
    `split.csv` of a run."""
    split_seed: int = 0
    on_error: str = "fail"
    """folder and table only: `skip` leaves out files that cannot be read, listed in `skipped.csv` of the run."""
    resize: str = "bilinear"
    fit: str = "squash"
    background: list[int] = field(default_factory=lambda: [255, 255, 255])
    """Red, green and blue below transparent pixels and around padded images."""

    def __post_init__(self) -> None:
        one_of("data.name", self.name, names.DATASETS)
        at_least("data.image_size", self.image_size, 8)
        if not 0 < self.train_fraction <= 1:
            raise broken("data.train_fraction", self.train_fraction, "above 0 and at most 1")
        if self.name == "folder" and not self.data_dir:
            rule = "the folder with train, validation and test, or with the classes, for data=folder"
            raise broken("data.data_dir", None, rule)
        if self.name == "synthetic":
            self._check_synthetic()
        if self.name == "table" and not self.file:
            raise broken("data.file", None, "a CSV or Parquet file with the columns path and label, for data=table")
        if self.name == "tfds" and not re.fullmatch(r"\w+(/[\w.-]+)?:\d+\.\d+\.\d+", self.dataset or ""):
            raise broken("data.dataset", self.dataset, "NAME:VERSION for data=tfds, such as beans:0.1.0")
        self._check_split()
        self._check_pixels()

    def _check_synthetic(self) -> None:
        for key in ("train_images", "validation_images", "test_images"):
            count = getattr(self, key)
            if count is None or count < 3:
                raise broken(f"data.{key}", count, "3 or more for data=synthetic: one image per class")
        if self.draw_seed is None or self.draw_seed < 0:
            raise broken("data.draw_seed", self.draw_seed, "0 or more for data=synthetic")

    def _check_split(self) -> None:
        at_least("data.split_seed", self.split_seed, 0)
        if self.split is None or (isinstance(self.split, str) and self.split.endswith(".csv")):
            return
        rule = "fractions of training, validation and test images that add up to 1 (only the test's may be 0)"
        fractions = self.split if isinstance(self.split, list) else []
        numbers = [one for one in fractions if isinstance(one, int | float) and not isinstance(one, bool) and one >= 0]
        if not len(fractions) == len(numbers) == 3 or abs(sum(numbers) - 1) > 1e-6 or 0 in numbers[:2]:
            raise broken("data.split", self.split, f"{rule}, or the split.csv of a run")

    def _check_pixels(self) -> None:
        one_of("data.on_error", self.on_error, ("fail", "skip"))
        one_of("data.resize", self.resize, names.RESIZES)
        one_of("data.fit", self.fit, names.FITS)
        if len(self.background) != 3 or not all(0 <= value <= 255 for value in self.background):
            raise broken(
                "data.background", self.background, "red, green and blue, 0 to 255 each, such as [255,255,255]"
            )


@dataclass
class TrainerConfig:
    name: str = "study"
    epochs: int = 20
    batch_size: int = 64
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    select: str = "last"
    """Which epoch is tested and saved: the last one, or the best by validation accuracy."""
    patience: int | None = None
    """Stop after this many epochs without a better validation accuracy; null: never."""
    deterministic: bool = False
    precision: str = "float32"
    microbatch: int | None = None
    """Images held in memory at once; gradients are summed to the effective batch. null: the whole batch."""
    test: bool = True

    def __post_init__(self) -> None:
        at_least("trainer.epochs", self.epochs, 0)
        at_least("trainer.batch_size", self.batch_size, 1)
        one_of("trainer.optimizer", self.optimizer, names.OPTIMIZERS)
        positive("trainer.learning_rate", self.learning_rate)
        one_of("trainer.select", self.select, ("last", "best"))
        at_least("trainer.patience", self.patience, 1)
        one_of("trainer.precision", self.precision, names.PRECISIONS)
        at_least("trainer.microbatch", self.microbatch, 1)
        if self.microbatch is not None and self.microbatch > self.batch_size:
            rule = f"at most trainer.batch_size={self.batch_size}"
            raise broken("trainer.microbatch", self.microbatch, rule)


@dataclass
class TrackingConfig:
    name: str = "local"
    uri: str | None = None
    """null: the store in `MLFLOW_TRACKING_URI`, or else SQLite in `mlruns/` under the folder where the command starts;
    or an MLflow server's address."""
    experiment: str = field(default_factory=lambda: _default_experiment())
    save_model: str = "all"
    offline: bool = False
    """Start even if the server is unreachable: metrics are saved on disk for `python -m beans_exp.sync`."""
    patience: float = 30.0
    """Seconds to wait for a slow server, a locked database or a full disk before what a run logs is kept on disk."""

    def __post_init__(self) -> None:
        at_least("tracking.patience", self.patience, 0)
        one_of("tracking.save_model", self.save_model, ("all", "best", "none"))
        if self.uri is not None:
            check_store("tracking.uri", self.uri)
        if not self.experiment.strip():
            raise broken("tracking.experiment", self.experiment, "a name")


def check_store(key: str, uri: str) -> None:
    """Raise ConfigError for an address in `key` that has a password, or that is no store."""
    without_password(key, uri)
    if not uri.startswith(STORES):
        raise broken(key, uri, f"an address starting with one of {', '.join(STORES)}")


def _default_experiment() -> str:
    """The experiment that MLflow's own variable names, or else this project's."""
    return os.environ.get(EXPERIMENT_VARIABLE) or "beans_exp"


@dataclass
class ObjectiveConfig:
    name: Any = "val/accuracy"
    """The metric, or list of metrics, returned to Hydra, from the selected epoch."""
    direction: Any = "maximize"

    def __post_init__(self) -> None:
        for key, value in (("name", self.name), ("direction", self.direction)):
            if not all(isinstance(item, str) for item in (value if isinstance(value, list) else [value])):
                raise broken(f"objective.{key}", value, "a name, or a list of names")
        if isinstance(self.name, list) != isinstance(self.direction, list) or len(self.metrics) != len(self.directions):
            raise broken("objective.direction", self.direction, "one for each metric of objective.name")
        if not self.metrics:
            raise broken("objective.name", self.name, "at least one metric")
        distinct("objective.name", self.metrics)
        for metric, direction in zip(self.metrics, self.directions, strict=True):
            one_of("objective.name", metric, tuple(OBJECTIVES))
            one_of("objective.direction", direction, ("maximize", "minimize"))
            better = OBJECTIVES[metric]
            if direction != better:
                raise broken("objective.direction", direction, f"{better} for objective.name={metric}")

    @property
    def metrics(self) -> list[str]:
        """The metrics' names, a list even where there is one."""
        return list(self.name) if isinstance(self.name, list) else [self.name]

    @property
    def directions(self) -> list[str]:
        """`maximize` or `minimize` for each of `metrics`."""
        return list(self.direction) if isinstance(self.direction, list) else [self.direction]


@dataclass
class FeaturesConfig:
    cache: str = "auto"
    dir: str | None = None
    max_gb: float = 20.0
    """Size limit of the cached activations; the least recently used are deleted first."""
    blocks: list[int] = field(default_factory=list)
    """Depths that other runs of the sweep will need; set by the sweeper."""

    def __post_init__(self) -> None:
        one_of("features.cache", self.cache, ("auto", "off"))
        positive("features.max_gb", self.max_gb)


@dataclass
class ConfirmConfig:
    top: int = 3
    seeds: int = 3

    def __post_init__(self) -> None:
        at_least("confirm.top", self.top, 0)
        at_least("confirm.seeds", self.seeds, 1)


@dataclass
class StudyConfig:
    """A row of a published study, with the figures it printed."""

    name: str = ""
    report: str = ""
    """The study of the row: a file of `conf/report`, which `python -m beans_exp.report` reads."""
    reported: dict[str, float] = field(default_factory=dict)


@dataclass
class SweepConfig:
    """Set by the sweeper for its jobs, never by hand."""

    id: str | None = None
    opened: int | None = None
    """When its command was started, in milliseconds since the epoch: what holds for one start is checked once."""
    parent_run: str | None = None
    fingerprint: str | None = None
    job: int | None = None
    jobs: int | None = None
    study: str | None = None
    """The Optuna study and trial of a search, as `beans_exp.hpo.pruning.TrialHandle` writes them."""


@dataclass
class Config:
    """The configuration of one run. Rules across groups are in `combinations`."""

    model: ModelConfig = field(default_factory=ModelConfig)
    reg: RegConfig = field(default_factory=RegConfig)
    kernel: KernelConfig = field(default_factory=KernelConfig)
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)
    data: DataConfig = field(default_factory=DataConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    features: FeaturesConfig = field(default_factory=FeaturesConfig)
    confirm: ConfirmConfig = field(default_factory=ConfirmConfig)
    study: StudyConfig | None = None
    sweep: SweepConfig = field(default_factory=SweepConfig)
    seed: int = 0
    run_name: str | None = None
    if_exists: str = "reuse"
    plan: bool = False

    def __post_init__(self) -> None:
        between("seed", self.seed, 0, 2**32 - 1)
        one_of("if_exists", self.if_exists, ("reuse", "rerun"))
