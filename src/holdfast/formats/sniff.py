"""What a file is, by what is in it and not by its name; and for those without readable weights, what to do.

It looks at a few kilobytes and at tables of contents, never at weights. It refuses to read anything further.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from holdfast.errors import CheckpointError
from holdfast.formats.byte_file import ByteFile, Bytes
from holdfast.formats.folder import contents
from holdfast.formats.folder_kinds import advice_for, inner_checkpoint, what_else
from holdfast.formats.foreign import ADVICE, STARTS, foreign_kind
from holdfast.formats.limits import LIMITS, Limits
from holdfast.formats.torch_tar import MEMBERS, is_tar_header, tar_members
from holdfast.formats.zip_archive import ZipArchive

STEPS = "folder of Holdfast checkpoints"  # what a run has in its `checkpoints`, or a store of its own
_HEAD = 4096
# torch's magic number as the first pickle of a file has it: in binary, and as decimal digits by protocols 0 and 1.
_MAGIC = (bytes.fromhex("6cfc9c46f9206aa85019"), b"119547037146038801333356")
_PHRASES = {"unknown": "of no kind we know", "text": "plain text", "XML": "XML", "JSON": "JSON"}
_NAMES = {
    "ONNX",
    "HDF5 or Keras",
    "TensorFlow",
    "TensorFlow Lite",
    "GGUF",
    "MessagePack (Flax)",
    "Torch7 (Lua)",
    "MXNet",
}


class Sniffed(NamedTuple):
    """What a place holds.

    Attributes:
        kind: "torch zip", "torch legacy", "torch tar", "pickle", "safetensors", "safetensors index", "npz", "npy",
            "TorchScript", "torch.export program", "DCP directory", "unpacked torch zip", "Holdfast checkpoint",
            "Holdfast run", "folder of weights"; what may hold one: "gzip", "zlib", "bzip2", "xz", "lzma", "tar
            archive", "zip archive"; or one of those that have no weights we read: "web page", "ONNX", "folder of
            Holdfast checkpoints" ….
        advice: what to do with one that has no weights we read; None for the others.
        file: for a folder of weights, the file to open when there is nothing beside it.
        archive: of a zip archive, what was opened to look into it.
    """

    kind: str
    advice: str | None = None
    file: str | None = None
    archive: ZipArchive | None = None


def a(kind: str) -> str:
    """Returns a kind with its article, for sentences."""
    if kind in _PHRASES:
        return _PHRASES[kind]
    kind = f"{kind} file" if kind in _NAMES else kind
    return (
        f"an {kind}"
        if kind.startswith(("empty", "encrypted", "MXNet", "Exec", "ONNX", "HDF5", "npy", "npz"))
        else f"a {kind}"
    )


def sniff(path: str | os.PathLike[str], limits: Limits = LIMITS) -> Sniffed:
    """Returns what a file or a folder is.

    Raises:
        CheckpointError: there is nothing of that name, or it may not be read.
    """
    path = os.fspath(path)
    if os.path.isdir(path):  # noqa: PTH112  # importing pathlib costs a third of a whole look
        return _folder(path)
    found = sniff_bytes(ByteFile(path), limits)
    index = path.rpartition(".data-")[0] + ".index"  # TensorFlow's values alone are bytes like any others
    if found.kind == "unknown" and ".data-" in path and os.path.isfile(index):  # noqa: PTH113
        return Sniffed("TensorFlow", ADVICE["TensorFlow"])
    return found


def sniff_bytes(file: Bytes, limits: Limits = LIMITS) -> Sniffed:
    """Returns what a file is."""
    head = file.read(0, _HEAD)
    if head.startswith(b"PK"):
        return _archive(file, head, limits)
    kind = _kind(file, head)
    if kind == "unknown":
        return Sniffed(kind, f"It begins like nothing we know ({head[:8].hex(' ')}). Is it the right file, and whole?")
    return Sniffed(kind, ADVICE.get(kind))


def _kind(file: Bytes, head: bytes) -> str:
    if not head:
        return "empty file"
    if not head.strip(b"\0"):
        return "file of zeros"
    for start, kind in STARTS:
        if head.startswith(start):
            return kind
    if _is_safetensors(head, file.num_bytes):
        return "safetensors"
    if any(magic in head[:40] for magic in _MAGIC):
        return "torch legacy"
    if is_tar_header(head[:512]):
        return "torch tar" if set(MEMBERS) <= tar_members(file).keys() else "tar archive"
    if head[0] == 0x80 and head[1:2] in (b"\2", b"\3", b"\4", b"\5"):
        return "pickle"
    return foreign_kind(file, head) or _text_kind(file, head)


def _is_safetensors(head: bytes, num_bytes: int) -> bool:
    length = int.from_bytes(head[:8], "little")
    return head[8:9] == b"{" and 2 <= length < 1 << 30 and (length <= num_bytes or b'"dtype"' in head)


def _archive(file: Bytes, head: bytes, limits: Limits) -> Sniffed:
    try:
        archive = ZipArchive(file, limits)
    except CheckpointError:
        # Whoever opens it tells what is wrong with it; what it was meant to be shows in its first entry.
        return Sniffed("npz" if b".npy" in head[:200] else "torch zip")
    kind = _archive_kind(list(archive.entries))
    return Sniffed(kind, ADVICE.get(kind), archive=archive)


def _archive_kind(names: list[str]) -> str:
    inner = {name.partition("/")[2] for name in names}
    if "data.pkl" in inner | set(names):
        script = "constants.pkl" in inner or any(name.startswith("code/") for name in inner)
        return "TorchScript" if script else "torch zip"
    if "archive_format" in inner or any(name.endswith("serialized_exported_program.json") for name in names):
        return "torch.export program"
    if ".data/serialization_id" in inner and "archive_format" not in inner:
        return "torch zip without a pickle"
    if "model.json" in inner and "version" in inner:
        return "TorchScript before 1.4"
    if names and all(name.endswith(".npy") for name in names):
        return "npz"
    return "Keras archive" if "model.weights.h5" in names else "zip archive"


def _text_kind(file: Bytes, head: bytes) -> str:
    if head[:1] in b"(]}cNIKVX" and file.read(file.num_bytes - 1, 1) == b"." and b"\n" in head[:200]:
        return "pickle"  # protocols 0 and 1 have no mark of their own
    if head[:2] in (b"\xff\xfe", b"\xfe\xff") and not head.decode("utf-16", "replace")[:200].count("\ufffd"):
        return "text"
    try:
        text = head.decode("utf-8").lstrip("\ufeff \t\r\n").lower()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4 or len(head) < _HEAD:
            return "unknown"
        text = head[: error.start].decode("utf-8").lstrip("\ufeff \t\r\n").lower()
    if any(ord(letter) < 9 for letter in text):
        return "unknown"
    if text.startswith(("<!doctype html", "<html", "<head")):
        return "web page"
    if text.startswith("<?xml"):
        return "XML"
    if text[:1] in ("{", "["):
        whole = file.read(0, min(file.num_bytes, 64 << 20))
        return "safetensors index" if b'"weight_map"' in whole else "JSON"
    return "text"


def _is_step(path: str, name: str) -> bool:
    return name.startswith("step-") and os.path.isfile(os.path.join(path, name, "manifest.json"))  # noqa: PTH113, PTH118


def _folder(path: str) -> Sniffed:
    try:
        names = sorted(os.listdir(path))  # noqa: PTH208
    except OSError as error:
        raise CheckpointError(f"Opening {path}: {error.strerror or error}. Check the path.") from error
    if "manifest.json" in names:
        return Sniffed("Holdfast checkpoint")
    if inner := inner_checkpoint(path, names):
        return Sniffed("folder of weights", None, inner)
    if "checkpoints" in names and os.path.isdir(os.path.join(path, "checkpoints")):  # noqa: PTH112, PTH118
        return Sniffed("Holdfast run")
    if ".metadata" in names:
        return Sniffed("DCP directory")
    if {"data.pkl", "version"} <= set(names) and not {"constants.pkl", "code"} & set(names):
        return Sniffed("unpacked torch zip")
    if steps := [name for name in names if _is_step(path, name)]:
        shown = f"{', '.join(steps[:3])}{' …' if len(steps) > 3 else ''}"
        return Sniffed(STEPS, f"Name the run, or one of {shown}.")
    held = contents(path, names)
    if held.has_weights:
        return Sniffed("folder of weights", None, held.only)
    kind = what_else(names) if names else "empty folder"
    named = advice_for(path, names) if kind == "folder" else None
    return Sniffed(kind, named or ADVICE[kind])
