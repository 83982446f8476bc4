"""What a file is, by what is in it and not by its name; and for those without readable weights, what to do.

It looks at a few kilobytes and at tables of contents, never at weights. It refuses to read anything further.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from holdfast.errors import CheckpointError
from holdfast.formats.byte_file import ByteFile, Bytes
from holdfast.formats.folder import contents
from holdfast.formats.limits import LIMITS, Limits
from holdfast.formats.torch_tar import MEMBERS, is_tar_header, tar_members
from holdfast.formats.zip_archive import ZipArchive

STEPS = "folder of Holdfast checkpoints"  # what a run has in its `checkpoints`, or a store of its own
_HEAD = 4096
# torch's magic number as the first pickle of a file has it: in binary, and as decimal digits by protocols 0 and 1.
_MAGIC = (bytes.fromhex("6cfc9c46f9206aa85019"), b"119547037146038801333356")
_ADVICE = {
    "empty file": "It has 0 bytes: a save or a download that never began. Take another copy of it.",
    "file of zeros": "Its first bytes are all zero: a download or a save that was never finished. Take another copy.",
    "Git LFS pointer": "It only points to the weights. Run `git lfs pull` where you cloned it, and open what comes.",
    "web page": "A server answered with a page instead of the file: a login or an error. Download it again.",
    "XML": "It is a document, not weights. Is it the right file?",
    "text": "It is readable text, perhaps a log. Is it the right file?",
    "JSON": "It is a configuration, not weights; the weights lie beside it. Open these.",
    "ONNX": "It is a graph for inference. Open the PyTorch checkpoint that it was exported from.",
    "HDF5 or Keras": "It holds arrays of another framework. Save them with numpy.savez and open the .npz.",
    "Keras archive": "It holds a model of another framework. Save its weights with numpy.savez and open the .npz.",
    "TensorFlow": "It is of another framework. Save its variables with numpy.savez and open the .npz.",
    "TensorFlow Lite": "It is a graph for inference. Open the checkpoint that it was converted from.",
    "GGUF": "Its weights are quantised for inference. Open the checkpoint that it was converted from.",
    "picture": "It is an image. Is it the right file?",
    "PDF": "It is a document. Is it the right file?",
    "compressed file": "Decompress it (unxz, bunzip2, unzstd, 7z, unrar) and open what comes out.",
    "TorchScript before 1.4": "Its weights have another layout. Load it with torch.jit.load and save its state_dict().",
    "zip archive": "It has no data.pkl and no arrays. Unpack it and open the checkpoint that is in it.",
    "tar archive": "It is not torch's own. Unpack it and open the checkpoint that is in it.",
    "empty folder": "There is nothing in it. Check the path.",
    "folder": "It is neither a run, a checkpoint nor a folder of shards with their index. Name the file in it.",
    "unknown": "It begins like nothing we know. Is it the right file, and whole?",
}
_STARTS: tuple[tuple[bytes, str], ...] = (
    (b"\x93NUMPY", "npy"), (b"\x89HDF\r\n\x1a\n", "HDF5 or Keras"), (b"GGUF", "GGUF"), (b"\x1f\x8b", "gzip"),
    (b"version https://git-lfs", "Git LFS pointer"), (b"\xfd7zXZ\0", "compressed file"), (b"BZh", "compressed file"),
    (b"\x28\xb5\x2f\xfd", "compressed file"), (b"7z\xbc\xaf\x27\x1c", "compressed file"),
    (b"Rar!", "compressed file"), (b"\x89PNG", "picture"), (b"\xff\xd8\xff", "picture"), (b"GIF8", "picture"),
    (b"%PDF", "PDF"),
)  # fmt: skip


class Sniffed(NamedTuple):
    """What a place holds.

    Attributes:
        kind: "torch zip", "torch legacy", "torch tar", "pickle", "safetensors", "safetensors index", "npz", "npy",
            "gzip", "TorchScript", "torch.export program", "DCP directory", "Holdfast checkpoint", "Holdfast run",
            "folder of weights", or one of those that have no weights we read: "web page", "ONNX", "folder of Holdfast
            checkpoints" ….
        advice: what to do with one that has no weights we read; None for the others.
        file: for a folder of weights, the file to open when there is nothing beside it.
    """

    kind: str
    advice: str | None = None
    file: str | None = None


def a(kind: str) -> str:
    """Returns a kind with its article, for sentences."""
    if kind in ("unknown", "text", "XML", "JSON"):
        return {"unknown": "of no kind we know", "text": "plain text"}.get(kind, kind)
    return f"an {kind}" if kind.startswith(("empty", "ONNX", "HDF5", "npy", "npz")) else f"a {kind}"


def sniff(path: str | os.PathLike[str], limits: Limits = LIMITS) -> Sniffed:
    """Returns what a file or a folder is.

    Raises:
        CheckpointError: there is nothing of that name, or it may not be read.
    """
    path = os.fspath(path)
    return _folder(path) if os.path.isdir(path) else sniff_bytes(ByteFile(path), limits)  # noqa: PTH112  # importing pathlib costs a third of a whole look


def sniff_bytes(file: Bytes, limits: Limits = LIMITS) -> Sniffed:
    """Returns what a file is."""
    kind = _kind(file, file.read(0, _HEAD), limits)
    return Sniffed(kind, _ADVICE.get(kind))


def _kind(file: Bytes, head: bytes, limits: Limits) -> str:
    if not head:
        return "empty file"
    if not head.strip(b"\0"):
        return "file of zeros"
    for start, kind in _STARTS:
        if head.startswith(start):
            return kind
    if head.startswith(b"PK"):
        return _zip_kind(file, head, limits)
    if _is_safetensors(head, file.num_bytes):
        return "safetensors"
    if any(magic in head[:40] for magic in _MAGIC):
        return "torch legacy"
    if is_tar_header(head[:512]):
        return "torch tar" if set(MEMBERS) <= tar_members(file).keys() else "tar archive"
    if head[4:8] == b"TFL3":
        return "TensorFlow Lite"
    if head[0] == 0x80 and head[1:2] in (b"\2", b"\3", b"\4", b"\5"):
        return "pickle"
    if head[0] == 0x08 and any(word in head for word in (b"onnx", b"pytorch", b"\x12\x07tf2onnx")):
        return "ONNX"
    if head[:2] == b"\x08\x01" or file.read(file.num_bytes - 8, 8) == bytes.fromhex("57fb808b247547db"):
        return "TensorFlow"
    return _text_kind(file, head)


def _is_safetensors(head: bytes, num_bytes: int) -> bool:
    length = int.from_bytes(head[:8], "little")
    return head[8:9] == b"{" and 2 <= length < 1 << 30 and (length <= num_bytes or b'"dtype"' in head)


def _zip_kind(file: Bytes, head: bytes, limits: Limits) -> str:
    try:
        names = list(ZipArchive(file, limits).entries)
    except CheckpointError:
        # Whoever opens it tells what is wrong with it; what it was meant to be shows in its first entry.
        return "npz" if b".npy" in head[:200] else "torch zip"
    inner = {name.partition("/")[2] for name in names}
    if "data.pkl" in inner | set(names):
        script = "constants.pkl" in inner or any(name.startswith("code/") for name in inner)
        return "TorchScript" if script else "torch zip"
    if "archive_format" in inner or any(name.endswith("serialized_exported_program.json") for name in names):
        return "torch.export program"
    if "model.json" in inner and "version" in inner:
        return "TorchScript before 1.4"
    if names and all(name.endswith(".npy") for name in names):
        return "npz"
    return "Keras archive" if "model.weights.h5" in names else "zip archive"


def _text_kind(file: Bytes, head: bytes) -> str:
    if head[:1] in b"(]}cNIKVX" and file.read(file.num_bytes - 1, 1) == b"." and b"\n" in head[:200]:
        return "pickle"  # protocols 0 and 1 have no mark of their own
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
    if "checkpoints" in names and os.path.isdir(os.path.join(path, "checkpoints")):  # noqa: PTH112, PTH118
        return Sniffed("Holdfast run")
    if ".metadata" in names:
        return Sniffed("DCP directory")
    if steps := [name for name in names if _is_step(path, name)]:
        shown = f"{', '.join(steps[:3])}{' …' if len(steps) > 3 else ''}"
        return Sniffed(STEPS, f"Name the run, or one of {shown}.")
    held = contents(path, names)
    if held.has_weights:
        return Sniffed("folder of weights", None, held.only)
    kind = "folder" if names else "empty folder"
    return Sniffed(kind, _ADVICE[kind])
