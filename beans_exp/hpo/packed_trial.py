"""A trial of a study as it travels: plain JSON, with the attributes that mean the same on another machine."""

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from optuna.distributions import distribution_to_json, json_to_distribution
from optuna.trial import FrozenTrial, TrialState

from beans_exp.hpo.trial_attrs import CAUSE, FINGERPRINT, HEARTBEAT, ORIGIN, OWNER, RETRIED, RETRIES, RUN, TOO_SLOW

LOCAL_COLUMNS = tuple(f"user_attrs_{name}" for name in (OWNER, HEARTBEAT))
"""The columns of a table of trials that name processes."""
USER_ATTRS = (RETRIED, RETRIES, FINGERPRINT, RUN, ORIGIN, TOO_SLOW, CAUSE)
SYSTEM_ATTRS = ("grid_id", "search_space", "fixed_params", "constraints")
SYSTEM_PREFIXES = ("completed_rung_", "tpe:relative_params", "NSGAIISampler:generation")
"""Attributes of samplers and pruners. CMA-ES stores a pickle, which could run code: it starts over instead."""


def trial_to_json(trial: FrozenTrial) -> dict[str, Any]:
    """Return `trial` as JSON's types; values are texts, since they may be infinite."""
    started, ended = trial.datetime_start, trial.datetime_complete
    return {
        "state": trial.state.name,
        "values": None if trial.values is None else list(map(repr, trial.values)),
        "started": started.isoformat() if started else None,
        "ended": ended.isoformat() if ended else None,
        "params": trial.params,
        "distributions": {key: json.loads(distribution_to_json(one)) for key, one in trial.distributions.items()},
        "intermediate": {str(step): repr(float(value)) for step, value in trial.intermediate_values.items()},
        "user": _picked(trial.user_attrs, USER_ATTRS),
        "system": _picked(trial.system_attrs, SYSTEM_ATTRS, SYSTEM_PREFIXES),
    }


def trial_from_json(plain: Mapping[str, Any], ids: Mapping[str, str]) -> FrozenTrial:
    """Return the trial that `trial_to_json` returned, without attributes that are unknown here.

    Its run's id is replaced by the one that `ids` gives. Raises ValueError and the like for a trial that cannot be.
    """
    user = _picked(plain["user"], USER_ATTRS)
    if RUN in user:
        user[RUN] = ids.get(user[RUN], "")
    state = TrialState[plain["state"]]
    if not state.is_finished():
        raise ValueError("a trial has not ended")
    return FrozenTrial(
        number=-1,
        state=state,
        value=None,
        datetime_start=datetime.fromisoformat(plain["started"]) if plain["started"] else None,
        datetime_complete=datetime.fromisoformat(plain["ended"]),
        params=dict(plain["params"]),
        distributions={key: json_to_distribution(json.dumps(one)) for key, one in plain["distributions"].items()},
        user_attrs=user,
        system_attrs=_picked(plain["system"], SYSTEM_ATTRS, SYSTEM_PREFIXES),
        intermediate_values={int(step): float(value) for step, value in plain["intermediate"].items()},
        trial_id=-1,
        values=None if plain["values"] is None else list(map(float, plain["values"])),
    )


def _picked(attrs: Mapping[str, Any], names: Iterable[str], prefixes: tuple[str, ...] = ()) -> dict[str, Any]:
    return {key: value for key, value in attrs.items() if key in names or (prefixes and key.startswith(prefixes))}


def trial_identity(trial: Mapping[str, Any]) -> str:
    """Return the identity of a trial in any storage of its study: the microsecond of its start."""
    return str(trial["started"] or json.dumps(trial["params"], sort_keys=True))
