"""What decides the result of a run, as one hash: equal fingerprints are the same run."""

import hashlib
import json
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from beans_exp.data.source import Source
from beans_exp.schema import Config
from beans_exp.weights import weights_digest

RESULT_VERSION = 2
"""Raised by hand when a change of the code changes the results of equal configurations."""


def fingerprint(config: Config, source: Source) -> str:
    """Return 16 hex digits for what decides the result of `config` on `source`.

    Left out, because they decide nothing: labels, `trainer.test`, `trainer.microbatch`, caches, tracking, paths and
    everything of a launcher. `trainer.precision` must be resolved.
    """
    return _hash(_deciding(config, source))


def head_fingerprint(config: Config, source: Source) -> str:
    """Return 16 hex digits for what decides the first stage of `config`, with the libraries that compute it."""
    software = {name: version(name) for name in ("keras", "tensorflow")}
    return _hash(_deciding(config, source) | {"finetune": None} | software)


def _hash(deciding: dict[str, Any]) -> str:
    text = json.dumps(deciding, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _deciding(config: Config, source: Source) -> dict[str, Any]:
    trainer = asdict(config.trainer)
    for key in ("name", "test", "microbatch"):
        del trainer[key]
    return {
        "version": RESULT_VERSION,
        "data": {
            "name": source.name,
            "version": source.version,
            "digest": source.digest,
            "image_size": config.data.image_size,
            "train_fraction": config.data.train_fraction,
        },
        "model": asdict(config.model) | {"weights": weights_digest(config.model)},
        "reg": _unlabelled(asdict(config.reg)) | {"augment": sorted(config.reg.augment)},
        "kernel": _unlabelled(asdict(config.kernel)),
        "finetune": _unlabelled(asdict(config.finetune)),
        "trainer": trainer,
        "seed": config.seed,
    }


def _unlabelled(group: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in group.items() if key != "name"}
