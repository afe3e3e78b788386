"""Create a sampler or a pruner from its class path and arguments, without Hydra, in the sweeper and in jobs."""

import importlib
import inspect
import warnings
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from beans_exp.errors import ConfigError
from beans_exp.schema.rules import broken, shown


def instantiate(node: Mapping[str, Any], key: str = "optuna", /, **more: Any) -> Any:
    """Return an instance of the class at the path `_target_` of `node`; its arguments may be such nodes, too.

    `key` is the node's key in the configuration, for messages; `more` are further arguments. Raises ConfigError for a
    class that does not exist and for arguments that it does not accept.
    """
    target = _class(shown(node.get("_target_")), f"{key}._target_")
    given = {name: _value(value, f"{key}.{name}") for name, value in node.items() if name != "_target_"}
    try:
        _require_arguments(target, given | more, key)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".* is (an )?experimental")  # the user chose it
            return target(**given, **more)
    except (ImportError, TypeError, ValueError) as error:
        raise ConfigError(f"{key}: {node['_target_']} rejects its arguments: {error}") from error


def _value(value: Any, key: str) -> Any:
    return instantiate(value, key) if isinstance(value, Mapping) and "_target_" in value else value


def _class(path: str, key: str) -> type:
    module_name, _, name = path.rpartition(".")
    try:
        members = vars(importlib.import_module(module_name))
    except (ImportError, TypeError, ValueError) as error:
        raise broken(key, path, f"the path of a class, module first ({error})") from error
    target = members.get(name)
    if not isinstance(target, type):
        classes = [other for other, member in members.items() if isinstance(member, type)]
        raise broken(key, path, f"the path of a class in {module_name}{_hint(name, classes)}")
    return target


def _require_arguments(target: type, given: Mapping[str, Any], key: str) -> None:
    parameters = inspect.signature(target).parameters.values()
    accepted = [item.name for item in parameters if item.kind not in (item.VAR_KEYWORD, item.VAR_POSITIONAL)]
    accepts_any = any(item.kind == item.VAR_KEYWORD for item in parameters)
    for name in (name for name in given if name not in accepted and not accepts_any):
        hint = _hint(name, accepted) or f"; it accepts {', '.join(accepted) or 'none'}"
        raise ConfigError(f"{key}.{name}={shown(given[name])}: {target.__name__} has no such argument{hint}")
    for item in parameters:
        if item.name in accepted and item.default is item.empty and item.name not in given:
            raise ConfigError(f"{key}: {target.__name__} needs {item.name}. Write +{key}.{item.name}=value")


def _hint(name: str, known: Iterable[str]) -> str:
    close = get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""
