"""Checks of a file's directory against its manifest, before any member is read."""

import re
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipInfo

from beans_exp.errors import BeansExpError
from beans_exp.tracking.packed_file import (
    ARTIFACTS,
    FREE_BYTES,
    MANIFEST,
    MAX_ARTIFACT,
    MAX_MODEL,
    MAX_RATIO,
    MAX_TEXT,
    MAX_TOTAL,
    MODEL,
    is_portable_path,
)

COPY_AGAIN = "Copy the file again, or pack the runs anew"
FOREIGN = "Give a file that python -m beans_exp.pack wrote"


@dataclass(frozen=True)
class Member:
    """A member of the file, as its manifest describes it."""

    name: str
    sha256: str
    size: int


def refusal(file: Path, name: str, rule: str, way_out: str = COPY_AGAIN) -> BeansExpError:
    """Return the error for a member of `file` that breaks `rule`, which continues "must ..."."""
    return BeansExpError(f"{file}: {ascii(name)[1:-1]} must {rule}. {way_out}. Nothing was unpacked")


def check_entry(file: Path, info: ZipInfo, names: Counter[str]) -> None:
    """Raise for a member that is no plain file in the folder, or would be too large."""
    kind = stat.S_IFMT(info.external_attr >> 16)
    limit = _limit(info.filename)
    rules = [
        (info.orig_filename == info.filename and is_portable_path(info.filename), "have a relative path without .."),
        (names[info.filename] == 1, "be in the file once"),
        (not _is_inside_file(info.filename, names), "not lie in another member"),
        (kind in (0, stat.S_IFREG) and not info.is_dir(), "be a plain file, not a link or a folder"),
        (info.compress_type in (ZIP_STORED, ZIP_DEFLATED) and not info.flag_bits & 1, "be stored or deflated"),
        (info.file_size <= limit, f"have at most {limit:,} bytes"),
        (info.file_size <= max(FREE_BYTES, MAX_RATIO * info.compress_size), f"be compressed to 1/{MAX_RATIO} at most"),
    ]
    for holds, rule in rules:
        if not holds:
            raise refusal(file, info.filename, rule)


def _is_inside_file(name: str, names: Counter[str]) -> bool:
    parts = name.split("/")
    return any("/".join(parts[:length]) in names for length in range(1, len(parts)))


def _limit(name: str) -> int:
    folder = name.split("/")[2:3]
    return {ARTIFACTS: MAX_ARTIFACT, MODEL: MAX_MODEL}.get(folder[0] if folder else "", MAX_TEXT)


def described_members(file: Path, described: Any) -> Iterator[tuple[str, Member]]:
    """Yield the members of the manifest by their names; raises BeansExpError for one without size and checksum."""
    if not isinstance(described, dict):
        raise refusal(file, MANIFEST, "list its members", FOREIGN)
    for name, facts in described.items():
        digest, size = (facts.get("sha256"), facts.get("size")) if isinstance(facts, dict) else (None, None)
        if not (re.fullmatch("[0-9a-f]{64}", str(digest)) and type(size) is int and size >= 0):
            raise refusal(file, name, "have a size and a checksum in the manifest")
        yield name, Member(name, str(digest), size)


def check_sizes(file: Path, found: dict[str, ZipInfo], members: dict[str, Member]) -> None:
    """Raise for a member that only the directory or only the manifest has, and for other or too large sizes."""
    for name in sorted(set(found) ^ set(members)):
        raise refusal(file, name, "be in the file" if name in members else "be in the manifest")
    for name, info in found.items():
        if info.file_size != members[name].size:
            raise refusal(file, name, "have the size in the manifest")
    if sum(info.file_size for info in found.values()) > MAX_TOTAL:
        raise refusal(file, file.name, f"have at most {MAX_TOTAL:,} bytes, decompressed")
