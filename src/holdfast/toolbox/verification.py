"""Prove a checkpoint of anybody: ours by their digests, others by the checksums that they carry, if they do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from holdfast.checkpoints.finding import Finding
from holdfast.checkpoints.verify import Verification, verify_path
from holdfast.errors import CheckpointCorrupt
from holdfast.formats import LazyTensor, OpenedCheckpoint, open_checkpoint, sniff
from holdfast.formats.byte_file import ByteFile
from holdfast.formats.proving import prove
from holdfast.formats.zip_archive import ZipArchive

_WITHOUT = (
    "every tensor that it promises is there, but its kind carries no checksums: a value that was changed would not show"
)
_ARCHIVES = ("torch zip", "TorchScript", "torch.export program", "npz")  # zip archives: a CRC-32 for every entry
_OURS = (
    "nothing",
    "folder of Holdfast checkpoints",
    "Holdfast checkpoint",
    "Holdfast run",
    "safetensors",
    "folder",
    "empty folder",
)


def verify(spec: str, told: Callable[[Finding], None] = lambda _: None) -> Verification:
    """Reads every byte that matters of what `spec` names, and compares all digests and checksums. Writes nothing.

    Our own runs, checkpoints and files, and any safetensors file, as `checkpoints.verify.verify_path` does. Of a file
    or a folder of others: its structure, and every tensor's bytes against the checksum that the archive keeps.

    Args:
        spec: as `verify_path` takes it, or anything that `open_checkpoint` opens.
        told: receives each finding as soon as it is there.

    Raises:
        ConfigError: there is nothing there, or no such step.
        CheckpointError: it holds no weights that we read; the message says what it is and what to do.
    """
    path = Path(spec).expanduser()
    kind = sniff(path).kind if path.exists() else "nothing"
    if kind in _OURS and (kind != "safetensors" or path.suffix == ".safetensors"):
        return verify_path(spec, told)
    finding = _finding(path)
    told(finding)
    return Verification(spec, [], [finding], [])


def _finding(path: Path) -> Finding:
    files = [path] if path.is_file() else [file for file in sorted(path.rglob("*")) if file.is_file()]
    num_bytes = sum(file.stat().st_size for file in files)
    try:
        opened = open_checkpoint(path)
        tensors = list(_tensors(opened))
        prove(tensors)
    except CheckpointCorrupt as error:
        return Finding(path, "damaged", str(error), num_bytes=num_bytes)
    if _has_checksums(path, opened.kind):
        return Finding(path, "ok", None, None, len(tensors), len(files), num_bytes)
    return Finding(path, "not provable", _WITHOUT, None, len(tensors), len(files), num_bytes)


def _has_checksums(path: Path, kind: str) -> bool:
    """Returns whether the file's own layout has a checksum for every byte of a tensor."""
    if kind.endswith("in gzip"):
        return True  # of the whole, and compared when it is opened
    if kind not in _ARCHIVES:
        return False
    entries = ZipArchive(ByteFile(str(path))).entries.values()  # torch can be told to leave the checksums out
    return all(entry.crc or not entry.num_bytes for entry in entries)


def _tensors(opened: OpenedCheckpoint) -> Iterator[LazyTensor]:
    """Yields every tensor of a checkpoint once: weights, slots of optimizers, and whatever else lies in it."""
    waiting: list[Any] = [opened.roles, opened.optimizers, opened.schedules, opened.metadata]
    seen: set[int] = set()
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, LazyTensor):
            yield value
        elif isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, (list, tuple)):
            waiting += value
