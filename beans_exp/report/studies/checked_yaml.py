"""YAML files that users write: every broken rule is one message with the file, the key, the rule and the way out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from beans_exp.errors import ConfigError
from beans_exp.schema.rules import shown


@dataclass(frozen=True)
class Node:
    """A value of a YAML file at a dotted `key`; empty for the whole file."""

    file: Path
    key: str
    value: Any

    def broken(self, rule: str, way_out: str) -> ConfigError:
        """Return the error for a value that breaks `rule`, a phrase that continues "must be"."""
        named = f"{self.key}={shown(self.value)}" if _is_short(self.value) else self.key
        return ConfigError(f"{self.file}: {named + ': ' if named else ''}must be {rule}. {way_out}")

    def mapping(self, required: Sequence[str] = (), optional: Sequence[str] | None = None) -> dict[str, "Node"]:
        """Return the value's entries; only `required` and `optional` are allowed, unless `optional` is None."""
        if not isinstance(self.value, dict):
            raise self.broken("a mapping of keys to values", f"Write {self.key or 'KEY'}: and indented keys below it")
        found = {str(key): Node(self.file, self._below(str(key)), value) for key, value in self.value.items()}
        for key in found if optional is not None else ():
            known = [*required, *(optional or ())]
            if key not in known:
                raise ConfigError(f"{self.file}: {found[key].key}: is not a known key. {_known(key, known)}")
        for key in required:
            if key not in found:
                raise ConfigError(f"{self.file}: {self._below(key)}: is missing. Add it")
        return found

    def items(self) -> Iterator["Node"]:
        """Yield the items of a list."""
        if not isinstance(self.value, list):
            raise self.broken("a list", f"Write {self.key}: [ITEM, ...]")
        for number, value in enumerate(self.value):
            yield Node(self.file, f"{self.key}[{number}]", value)

    def text(self) -> str:
        """Return a value that must be text."""
        if not isinstance(self.value, str) or not self.value.strip():
            raise self.broken("text", f"Write {self.key}: TEXT, in quotes if YAML reads it as something else")
        return self.value

    def number(self) -> float:
        """Return a value that must be a number."""
        if isinstance(self.value, bool) or not isinstance(self.value, int | float):
            raise self.broken("a number", f"Write {self.key}: NUMBER")
        return float(self.value)

    def choice(self, known: Sequence[str], way_out: str) -> str:
        """Return a value that must be one of `known`."""
        if self.value not in known:
            raise self.broken(f"one of {', '.join(known) or '(none)'}", way_out)
        return str(self.value)

    def _below(self, key: str) -> str:
        return f"{self.key}.{key}" if self.key else key


def read_yaml(file: Path) -> Node:
    """Return the content of `file`.

    Raises ConfigError for a file that cannot be read or is not YAML.
    """
    try:
        return Node(file, "", yaml.safe_load(file.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read ({error}). Make it readable, or remove it") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem = getattr(error, "problem", None) or "not valid YAML"
        raise ConfigError(f"{file}: {place}{problem}. Correct the YAML there") from error


def _is_short(value: Any) -> bool:
    return value is None or (isinstance(value, str | int | float) and len(str(value)) <= 60)


def _known(key: str, known: Sequence[str]) -> str:
    close = get_close_matches(key, known, n=1)
    return f"Did you mean {close[0]}?" if close else f"Known keys: {', '.join(known)}"
