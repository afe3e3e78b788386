"""The file that is written: a zip whose bytes depend on its content alone, with a checksum of each member."""

import hashlib
import shutil
import zlib
from pathlib import Path
from typing import Any, BinaryIO
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

from beans_exp.tracking.packed_file import FORMAT, FREE_BYTES, KIND, MANIFEST, MAX_RATIO, to_json

EPOCH = (1980, 1, 1, 0, 0, 0)
"""The time of every member: the earliest that a zip can hold."""
UNIX, PLAIN_FILE = 3, 0o100644 << 16
LEVEL = 9


class ArchiveWriter:
    """Writes members to a zip on `stream`, in a `with` block, then its manifest."""

    def __init__(self, stream: BinaryIO) -> None:
        self.zip = ZipFile(stream, "w")
        self.members: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> "ArchiveWriter":
        return self

    def __exit__(self, *exception: object) -> None:
        self.zip.close()

    def add(self, name: str, content: bytes) -> None:
        """Add a member; one that would compress like a file of zeros is stored as it is."""
        self._describe(name, hashlib.sha256(content), len(content))
        kind = ZIP_STORED if len(content) > FREE_BYTES and _ratio(content) > MAX_RATIO / 2 else ZIP_DEFLATED
        self.zip.writestr(_info(name, kind), content, compresslevel=LEVEL)

    def add_file(self, name: str, file: Path) -> None:
        """Add a large file as it is: weights hardly compress."""
        with file.open("rb") as source:
            self._describe(name, hashlib.file_digest(source, "sha256"), source.tell())
            source.seek(0)
            with self.zip.open(_info(name, ZIP_STORED), "w", force_zip64=True) as target:
                shutil.copyfileobj(source, target, 1 << 20)

    def add_manifest(self, facts: dict[str, Any]) -> None:
        """Write the manifest with `facts`, after all members."""
        manifest = {"kind": KIND, "format": FORMAT, "members": self.members} | facts
        self.zip.writestr(_info(MANIFEST, ZIP_DEFLATED), to_json(manifest), compresslevel=LEVEL)

    def _describe(self, name: str, digest: "hashlib._Hash", size: int) -> None:
        self.members[name] = {"sha256": digest.hexdigest(), "size": size}


def _info(name: str, compression: int) -> ZipInfo:
    info = ZipInfo(name, EPOCH)
    info.compress_type, info.create_system, info.external_attr = compression, UNIX, PLAIN_FILE
    return info


def _ratio(content: bytes) -> float:
    return len(content) / len(zlib.compress(content, LEVEL))
