"""A configuration as MLflow params and as YAML, without local paths."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import yaml

from beans_exp.models.weights import weights_name
from beans_exp.schema import Config
from beans_exp.schema.labels import labeled

LEFT_OUT = (
    "sweep",
    "data.data_dir",
    "data.cache_dir",
    "data.file",
    "features",
    "tracking.uri",
    "tracking.offline",
    "tracking.patience",
    "plan",
    "run_name",
    "study.reported",
)
"""Local paths, settings that a sweep passes to its jobs, and printed figures of the study."""


def flat_params(config: Config) -> dict[str, str]:
    """Return the configuration with dotted keys and values in YAML."""
    values = [*_flatten(asdict(portable(config)), ""), ("model.source", config.model.source)]
    return {key: as_text(value) for key, value in values if not _left_out(key)}


def portable(config: Config) -> Config:
    """Return `config` with files of weights and splits as their names, and with labels that follow its values."""
    split = config.data.split
    data = replace(config.data, split=Path(split).name) if isinstance(split, str) else config.data
    return replace(labeled(config), model=replace(config.model, weights=weights_name(config.model)), data=data)


def config_yaml(config: Config) -> str:
    """Return the configuration as YAML, without the keys in `LEFT_OUT`."""
    plain = asdict(portable(config))
    for key in LEFT_OUT:
        group, _, name = key.partition(".")
        if name and plain[group] is not None:
            plain[group].pop(name, None)
        elif not name:
            plain.pop(group)
    return yaml.safe_dump(plain, sort_keys=False)


def _flatten(node: dict[str, Any], prefix: str) -> list[tuple[str, Any]]:
    items: list[tuple[str, Any]] = []
    for key, value in node.items():
        items += _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else [(f"{prefix}{key}", value)]
    return items


def _left_out(key: str) -> bool:
    return any(f"{key}.".startswith(f"{left_out}.") for left_out in LEFT_OUT)


def as_text(value: Any) -> str:
    """Return `value` in YAML on one line."""
    return yaml.safe_dump(value, default_flow_style=True).removesuffix("\n").removesuffix("\n...")
