"""Texts without machine paths, addresses, host names, user names and secrets."""

import getpass
import os
import re
import socket
import sysconfig
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from beans_exp.schema import CONF

PACKAGE_ROOT = Path(__file__).parents[2]
SECRET = re.compile(r"PASSWORD|PASSWD|SECRET|TOKEN|API_?KEY|CREDENTIAL", re.IGNORECASE)
"""Environment variables whose values are secrets."""
HIDDEN, ADDRESS = "***", "<address>"
URI = re.compile(r"\b[A-Za-z][A-Za-z0-9+.-]+:/[^\s'\"<>,;)\]}]*")
QUOTED = re.compile(r"(?P<quote>['\"])(?:[A-Za-z]:[\\/]|\\\\|/|~[\w.-]*/)(?P<rest>[^'\"\n]*)(?P=quote)")
ABSOLUTE = re.compile(r"(?<![\w.~/<)\]}-])(?:[A-Za-z]:\\|\\\\|/|~[\w.-]*/)[^\s'\"`,;:=()\[\]{}<>|]+")
"""An absolute path outside of quotes, or one in a home: it ends at a blank or a sign that rarely is part of a path."""
SHORTEST_BYTES = 4
"""A shorter word is found by chance in a binary file."""


@dataclass(frozen=True)
class Scrubber:
    """Removes names of the machine: `folders` become relative, other paths their last part, `words` are masked."""

    folders: Mapping[str, str]
    """Absolute folders, longest first, and the placeholder for each."""
    words: Sequence[str]
    """Host names, user names and secrets."""

    def text(self, text: str) -> str:
        """Return `text` with relative paths, and without addresses and `words`."""
        text = self.paths(text)
        for word in self.words:
            text = re.sub(rf"(?<![\w-]){re.escape(word)}(?:\.[\w-]+)*(?![\w-])", HIDDEN, text)
        return text

    def paths(self, text: str) -> str:
        """Return `text` with relative paths, and without addresses."""
        for folder, relative in self.folders.items():
            text = re.sub(rf"{re.escape(folder)}(?:[/\\](?=\w)|(?![\w.-]))", relative, text)
        text = URI.sub(ADDRESS, text)
        text = QUOTED.sub(lambda found: f"{found['quote']}{_last_part(found['rest'])}{found['quote']}", text)
        return ABSOLUTE.sub(lambda found: _last_part(found[0]), text)

    def tree(self, plain: Any) -> Any:
        """Return `plain`, of JSON's types, with each text in it as `text` returns it."""
        if isinstance(plain, str):
            return self.text(plain)
        if isinstance(plain, list):
            return [self.tree(item) for item in plain]
        if isinstance(plain, dict):
            return {self.text(key): self.tree(value) for key, value in plain.items()}
        return plain

    def overrides(self, words: Iterable[str]) -> list[str]:
        """Return overrides of the command line; a value that is a path is reduced to its last part."""
        return [self.text(_relative_value(word)) for word in words]

    def is_clean(self, content: bytes) -> bool:
        """Whether none of the folders and words is in `content`, of a file that cannot be rewritten."""
        found = (word.encode() for word in (*self.folders, *self.words))
        return not any(word in content for word in found if len(word) >= SHORTEST_BYTES)


def make_scrubber(hosts: Iterable[str], users: Iterable[str], folders: Iterable[Path]) -> Scrubber:
    """Return a scrubber for this machine, and for the `hosts`, `users` and `folders` that a store names."""
    words = {*hosts, *users, socket.gethostname()}
    with suppress(OSError, KeyError):  # a user without a name
        words.add(getpass.getuser())
    words -= _option_names()
    words |= {value for name, value in os.environ.items() if SECRET.search(name) and len(value) >= SHORTEST_BYTES}
    own = (PACKAGE_ROOT, Path(sysconfig.get_path("purelib")).parent, *folders)
    relative = {str(Path.home()): "/~"} | {str(folder): "" for folder in own}
    known = {folder: new for folder, new in relative.items() if len(PurePath(folder).parts) > 1}
    longest_first = dict(sorted(known.items(), key=lambda pair: -len(pair[0])))
    return Scrubber(longest_first, sorted((word for word in words if len(word) > 1), key=len, reverse=True))


def _option_names() -> set[str]:
    """The names of groups and options: a user called `beans` gives nothing away, and `data=beans` has to stay."""
    return {part for file in CONF.rglob("*.yaml") for part in (file.stem, file.parent.name)}


def _last_part(path: str) -> str:
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1]


def _relative_value(word: str) -> str:
    key, equals, value = word.partition("=")
    plain = value.strip("'\"")
    if re.match(r"/|~|\\\\|[A-Za-z]:[\\/]", plain):
        return f"{key}{equals}{_last_part(plain)}"
    return word
