"""The values that decide a run's result: runs that share them are one configuration, whatever their seeds."""

from collections.abc import Mapping

import yaml

from beans_exp.fingerprint import GROUPS, HASHED_DEFAULTS, UNHASHED
from beans_exp.schema import Config
from beans_exp.tracking import tags
from beans_exp.tracking.params import as_text, flat_params
from beans_exp.tracking.reader import Record

DECIDING = (*GROUPS, "data")
"""The configuration's groups that decide a result, as in the fingerprint."""


def decides(key: str) -> bool:
    """Whether a param decides the result; labels, memory limits and paths do not."""
    return key.split(".")[0] in DECIDING and key not in UNHASHED


def deciding_params(params: Mapping[str, str]) -> dict[str, str]:
    """Return the `params` that decide a result, with the name of an architecture in place of the model's label."""
    found = {key: value for key, value in params.items() if decides(key)}
    arch = params.get("model.arch", "null")
    return found if arch == "null" else found | {"model.name": arch}


DEFAULTS = {key: value for key, value in flat_params(Config()).items() if decides(key)}
LOGGED_DEFAULTS = DEFAULTS | {key: as_text(value) for key, value in HASHED_DEFAULTS.items() if value != {}}
"""The value of a key that a run did not log because the key is newer than the run; a mapping is logged by its keys."""


def deciding(record: Record) -> dict[str, str]:
    """Return the values of `record` that decide its result, with defaults filled in, without its seed."""
    values = LOGGED_DEFAULTS | deciding_params(record.params)
    augmentations = sorted(yaml.safe_load(values["reg.augment"]))
    values["reg.augment"] = yaml.safe_dump(augmentations, default_flow_style=True).strip()
    if record.tags.get(tags.PRECISION):
        values["trainer.precision"] = record.tags[tags.PRECISION]
    return values
