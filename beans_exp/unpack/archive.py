"""A file of packed runs, refused as a whole unless every member matches its manifest."""

import hashlib
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile, ZipInfo

from beans_exp.errors import BeansExpError, first_line
from beans_exp.tracking.packed_file import FORMAT, KIND, MANIFEST, MAX_TEXT, from_json
from beans_exp.unpack.entries import COPY_AGAIN, FOREIGN, Member, check_entry, check_sizes, described_members, refusal

DAMAGE = (BadZipFile, EOFError, NotImplementedError, OSError, RuntimeError, ValueError, zlib.error)
"""Errors that `zipfile` raises for a file that is cut, changed, encrypted or compressed in another way."""
CHUNK = 1 << 20


@dataclass(frozen=True)
class Archive:
    """A file of packed runs whose manifest and names were checked; each member is checked when it is read."""

    file: Path
    facts: dict[str, Any]
    """The manifest without its members."""
    members: dict[str, Member]

    def read(self, name: str) -> bytes:
        """Return the content of a small member; raises BeansExpError if it does not match the manifest."""
        return b"".join(read_chunks(self.file, self.members[name]))

    def check(self) -> None:
        """Read every member; raises BeansExpError for the first that does not match the manifest."""
        for member in self.members.values():
            for _ in read_chunks(self.file, member):
                pass

    def refuse(self, name: str, rule: str, way_out: str = COPY_AGAIN) -> BeansExpError:
        """Return the error for a member that breaks `rule`, which continues "must ..."."""
        return refusal(self.file, name, rule, way_out)


def open_archive(file: Path) -> Archive:
    """Open `file` and check its members' names, kinds and sizes against its manifest; none of them is read.

    Raises BeansExpError for a file that is missing, damaged, foreign or of a later format.
    """
    with _damage_as_refusal(file, file.name):
        found = _open(file).infolist()
    names = Counter(info.filename for info in found)
    if MANIFEST not in names:
        raise refusal(file, file.name, f"have a {MANIFEST}", FOREIGN)
    for info in found:
        check_entry(file, info, names)
    manifest = _read_manifest(file, next(info for info in found if info.filename == MANIFEST))
    members = dict(described_members(file, manifest.pop("members", None)))
    check_sizes(file, {info.filename: info for info in found if info.filename != MANIFEST}, members)
    return Archive(file, manifest, members)


def read_chunks(file: Path, member: Member) -> Iterator[bytes]:
    """Yield the content of `member` and check its size and checksum; raises BeansExpError if they are others."""
    digest, size = hashlib.sha256(), 0
    with _damage_as_refusal(file, member.name), _open(file).open(member.name) as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
            size += len(chunk)
            if size > member.size:
                break
            yield chunk
    if size != member.size or digest.hexdigest() != member.sha256:
        raise refusal(file, member.name, "have the size and the checksum in the manifest")


def read_text(file: Path, member: Member) -> str:
    """Return the text of a small member; raises BeansExpError as `read_chunks` does."""
    return b"".join(read_chunks(file, member)).decode(errors="replace")


def extract(file: Path, member: Member, target: Path) -> None:
    """Write the content of `member` to `target`; raises BeansExpError as `read_chunks` does."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as stream:
        for chunk in read_chunks(file, member):
            stream.write(chunk)


def _open(file: Path) -> ZipFile:
    """The file, opened once in each process."""
    facts = file.stat()
    return _opened(file, facts.st_mtime_ns, facts.st_size)


@lru_cache(maxsize=1)
def _opened(file: Path, modified: int, size: int) -> ZipFile:
    return ZipFile(file)


@contextmanager
def _damage_as_refusal(file: Path, name: str) -> Iterator[None]:
    try:
        yield
    except DAMAGE as error:
        if not file.is_file():
            raise BeansExpError(f"{file}: must be a file that python -m beans_exp.pack wrote. Name one") from error
        raise refusal(file, name, f"be readable ({first_line(error)})") from error


def _read_manifest(file: Path, info: ZipInfo) -> dict[str, Any]:
    with _damage_as_refusal(file, MANIFEST), _open(file).open(info) as stream:
        content = stream.read(MAX_TEXT + 1)
    try:
        manifest = from_json(content)
    except ValueError as error:
        raise refusal(file, MANIFEST, str(error)) from error
    if manifest.get("kind") != KIND or type(manifest.get("format")) is not int:
        raise refusal(file, MANIFEST, f"have the kind {KIND} and a format", FOREIGN)
    if manifest["format"] > FORMAT:
        newer = f"Install beans_exp {ascii(str(manifest.get('beans_exp'))[:20])[1:-1]} or newer"
        raise refusal(file, MANIFEST, f"have the format {FORMAT} or an older one, not {manifest['format']}", newer)
    if not re.fullmatch(r"[^\x00-\x1f\ud800-\udfff]{1,250}", str(manifest.get("experiment") or "")):
        raise refusal(file, MANIFEST, "name an experiment")
    return manifest
