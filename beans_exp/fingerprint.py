"""A hash of everything that decides the result of a run: equal fingerprints are the same run.

Only values that differ from `HASHED_DEFAULTS` are hashed, so that a new configuration key leaves every fingerprint
as it was, while a run that relied on a default gets a new fingerprint when that default changes.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, fields
from typing import Any

from beans_exp.data.source import Source
from beans_exp.models.weights import weights_digest
from beans_exp.schema import Config

RESULT_VERSION = 3
"""Raise it when a change of the code changes the results of equal configurations."""

GROUPS = ("model", "reg", "kernel", "finetune", "trainer")
"""The configuration groups that are hashed key by key; of `data` only `DATA_KEYS` are, the rest by its digest."""
DATA_KEYS = ("image_size", "train_fraction", "resize", "fit", "background")
UNHASHED = (
    *("reg.name", "kernel.name", "finetune.name", "trainer.name"),
    *("trainer.test", "trainer.microbatch", "data.on_error"),
    *("model.build", "model.backbone", "model.arch"),
)
"""Keys of these groups that decide nothing: labels, the test, how much memory a step takes, what to do with damage, and
where a model's code is (the code itself is `model.source`). `model.name` is hashed as the name of the architecture if
there is one."""

HASHED_DEFAULTS: dict[str, Any] = {
    "model.name": "lenet",
    "model.weights": None,
    "model.top_block": None,
    "model.options": {},
    "model.source": None,
    "reg.l1": 0.0,
    "reg.l2": 0.0,
    "reg.dropout": 0.0,
    "reg.augment": [],
    "reg.label_smoothing": 0.0,
    "reg.aux_weight": 0.0,
    "kernel.size": 5,
    "kernel.filters": [6, 16, 120],
    "kernel.factorized": False,
    "finetune.blocks": 0,
    "finetune.epochs": 6,
    "finetune.learning_rate": 1e-5,
    "finetune.schedule": "constant",
    "data.image_size": 299,
    "data.train_fraction": 1.0,
    "data.resize": "bilinear",
    "data.fit": "squash",
    "data.background": [255, 255, 255],
    "trainer.epochs": 20,
    "trainer.batch_size": 64,
    "trainer.optimizer": "adam",
    "trainer.learning_rate": 1e-3,
    "trainer.select": "last",
    "trainer.patience": None,
    "trainer.deterministic": False,
    "trainer.precision": "float32",
}
"""The value of each key when it is absent from the hash: its default when the key was introduced.

A new key is added here with its default. An entry is never changed, not even when the default in the schema is.
"""


def fingerprint(config: Config, source: Source) -> str:
    """Return 16 hex digits that identify the result of `config` on `source`.

    Left out, because they decide nothing: labels, `trainer.test`, `trainer.microbatch`, caches, tracking, paths and
    all launcher options. `trainer.precision` must be resolved.
    """
    return _hash(_identity(config, source) | _changes(config))


def head_fingerprint(config: Config, source: Source) -> str:
    """Return 16 hex digits that identify the first stage of `config`, and the libraries that compute it."""
    from importlib.metadata import version

    first_stage = {key: value for key, value in _changes(config).items() if not key.startswith("finetune.")}
    software = {name: version(name) for name in ("keras", "tensorflow")}
    return _hash(_identity(config, source) | first_stage | software)


def hashed_values(config: Config) -> Iterator[tuple[str, Any]]:
    """Yield every key that decides the result, dotted, with its value; weights by their content."""
    for group in GROUPS:
        for name, value in asdict(getattr(config, group)).items():
            if (key := f"{group}.{name}") not in UNHASHED:
                yield key, _comparable(key, value, config)
    yield "model.source", config.model.source
    for name in DATA_KEYS:
        yield f"data.{name}", getattr(config.data, name)


def _comparable(key: str, value: Any, config: Config) -> Any:
    if key == "model.weights":
        return weights_digest(config.model)
    if key == "model.name":
        return config.model.identity
    return sorted(value) if key == "reg.augment" else value


def _changes(config: Config) -> dict[str, Any]:
    """The values that differ from `HASHED_DEFAULTS`; a key without an entry there has its default in the schema."""
    return {key: value for key, value in hashed_values(config) if value != _hashed_default(config, key)}


def _hashed_default(config: Config, key: str) -> Any:
    if key in HASHED_DEFAULTS:
        return HASHED_DEFAULTS[key]
    group, _, name = key.partition(".")
    field = next(item for item in fields(getattr(config, group)) if item.name == name)
    return field.default_factory() if callable(field.default_factory) else field.default


def _identity(config: Config, source: Source) -> dict[str, Any]:
    data = {"name": source.name, "version": source.version, "digest": source.digest}
    return {"version": RESULT_VERSION, "data": data, "seed": config.seed}


def _hash(content: dict[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
