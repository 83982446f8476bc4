"""`manifest.json`: what a checkpoint holds, and the digests that prove it. Written last: no manifest, no checkpoint.

The specification is docs/format.md. The file's bytes are exactly the canonical form of its contents, so that every
flipped bit in it shows, even in white space.
"""

from __future__ import annotations

import importlib.metadata
import json
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from holdfast.checkpoints.digest import digest_of
from holdfast.checkpoints.tensors import TensorEntry
from holdfast.errors import CheckpointCorrupt, CheckpointError

FILE_NAME = "manifest.json"
FORMAT = "holdfast-checkpoint"
VERSION = 2


@dataclass(frozen=True)
class FileEntry:
    """Size and digest of one file of the checkpoint."""

    num_bytes: int
    digest: str


@dataclass(frozen=True)
class PartEntry:
    """One saved object: the file of its tensors (None when it has none), what is in it, and which names are tied."""

    file: str | None
    tensors: dict[str, TensorEntry] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)


@cache
def _own_name() -> str:
    return f"holdfast {importlib.metadata.version('holdfast')}"


def _canonical(table: dict[str, Any]) -> bytes:
    return (json.dumps(table, indent=1, ensure_ascii=False, allow_nan=True) + "\n").encode()


@dataclass(frozen=True)
class Manifest:
    """The contents of a manifest.

    Attributes:
        step: optimizer updates made.
        parts: name → what was saved of it.
        files: file name → size and digest, the manifest itself excepted.
        metrics: name → number, as known when it was saved.
        metadata: JSON values that the saver added (epoch, classes, preprocessing, architecture, fingerprints …).
        version: of the format.
        written_by: the program that wrote it, with its version; empty when unknown.
    """

    step: int
    parts: dict[str, PartEntry]
    files: dict[str, FileEntry]
    metrics: dict[str, float] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    version: int = VERSION
    written_by: str = field(default_factory=_own_name)

    def to_bytes(self) -> bytes:
        """Returns the file's contents: canonical JSON that ends with its own digest."""
        table: dict[str, Any] = {"format": FORMAT, **asdict(self)}
        table["digest"] = digest_of(_canonical(table))
        return _canonical(table)


def _without_digest(data: bytes, digest: str) -> bytes:
    """Returns the canonical JSON that the digest was taken of: all but its last line, which is the digest itself."""
    last = f',\n "digest": "{digest}"\n}}\n'.encode()
    return data.removesuffix(last) + b"\n}\n" if data.endswith(last) else b""


def read_manifest(directory: Path, where: str | None = None) -> Manifest:
    """Reads and proves the manifest of a checkpoint directory.

    Args:
        directory: the checkpoint.
        where: what messages call it, when that is not the directory.

    Raises:
        CheckpointCorrupt: it is missing, or its bytes are not those that were written.
        CheckpointError: it was written by a newer Holdfast.
    """
    where = where or str(directory)
    path = f"{where}/{FILE_NAME}"
    try:
        data = (directory / FILE_NAME).read_bytes()
    except FileNotFoundError as error:
        raise CheckpointCorrupt(f"{where} has no {FILE_NAME}: it is not a finished checkpoint.") from error
    except OSError as error:
        raise CheckpointCorrupt(f"{path}: cannot be read ({error.strerror or error}).") from error
    try:
        table = json.loads(data)
        digest = table.pop("digest")
        kind, version = table.pop("format"), table["version"]
        proven = digest_of(_without_digest(data, digest)) == digest
        newer = kind != FORMAT or version > VERSION
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise CheckpointCorrupt(f"{path}: damaged ({error}).") from error
    if not proven:
        raise CheckpointCorrupt(f"{path}: its bytes do not match its own digest.")
    if newer:
        writer = str(table.get("written_by", "")) or "a newer Holdfast"
        raise CheckpointError(
            f"{path}: format {kind} version {version}, written by {writer}; this is {_own_name()}, which "
            f"reads {FORMAT} up to version {VERSION}. Install {writer} or newer to open it."
        )
    try:
        return _from_table(table)
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointCorrupt(f"{path}: not a manifest that we write ({error!r}).") from error


def _from_table(table: dict[str, Any]) -> Manifest:
    parts = {
        name: PartEntry(
            part["file"],
            {n: TensorEntry(t["dtype"], tuple(t["shape"]), t["digest"]) for n, t in part["tensors"].items()},
            part["aliases"],
        )
        for name, part in table["parts"].items()
    }
    files = {name: FileEntry(**entry) for name, entry in table["files"].items()}
    for name in files:
        if Path(name).name != name:
            raise ValueError(f"{name!r} is not the name of a file beside it")
    for part in parts.values():
        if strangers := set(part.aliases.values()) - part.tensors.keys():
            raise ValueError(f"names tied to no tensor: {strangers}")
    writer = table.get("written_by", "")
    return Manifest(table["step"], parts, files, table["metrics"], table["metadata"], table["version"], writer)
