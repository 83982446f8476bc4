"""The safetensors format, written with a digest for every tensor and read back without copying.

A file is: the header's length (8 bytes, little-endian), the header (JSON: name → dtype, shape, byte range; padded with
spaces to a multiple of 8), the tensors' bytes one after another. Any safetensors reader opens it.
We write it ourselves so that every byte is hashed as it goes to the disk and every call can be made to fail in a test.

Specification: the safetensors project's "Format" page.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from holdfast.checkpoints.digest import Readable
from holdfast.checkpoints.files import WriteFile
from holdfast.errors import CheckpointCorrupt

DTYPE_NAMES: dict[torch.dtype, str] = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8",
    torch.uint64: "U64", torch.uint32: "U32", torch.uint16: "U16", torch.uint8: "U8",
    torch.bool: "BOOL", torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2", torch.complex64: "C64",
    torch.float8_e4m3fnuz: "F8_E4M3FNUZ", torch.float8_e5m2fnuz: "F8_E5M2FNUZ", torch.float8_e8m0fnu: "F8_E8M0",
}  # fmt: skip
DTYPES = {name: dtype for dtype, name in DTYPE_NAMES.items()}
PLAIN = {"format": "pt"}  # the metadata that other readers expect of torch's tensors
_MAX_HEADER = 100_000_000  # bytes; the limit of the safetensors library itself

if sys.byteorder != "little":  # pragma: no cover
    raise ImportError("Holdfast writes tensors as they lie in memory, and the format is little-endian.")


@dataclass(frozen=True)
class TensorEntry:
    """What a manifest records of one tensor: dtype as safetensors names it, shape, and the digest of its bytes."""

    dtype: str
    shape: tuple[int, ...]
    digest: str


@dataclass(frozen=True)
class WrittenFile:
    """What was written: size, digest of the whole file, and an entry a tensor."""

    num_bytes: int
    digest: str
    tensors: dict[str, TensorEntry]


def write_tensors(
    write: WriteFile, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> WrittenFile:
    """Writes tensors to a new safetensors file, in the order given.

    Args:
        write: takes the file's bytes, chunk by chunk and as often as it likes, and makes them durable:
            `partial(files.write_durably, path)`.
        tensors: name → tensor of any shape, stride and device, of a dtype in DTYPE_NAMES.
        metadata: text → text, for the header.

    Raises:
        OSError: the disk is full, the file exists, ….
    """
    kinds = {name: (DTYPE_NAMES[tensor.dtype], tuple(tensor.shape)) for name, tensor in tensors.items()}
    written = write(_FileBytes(header_bytes(kinds, metadata), tensors))
    digests = written.chunk_digests[1:]
    entries = {
        name: TensorEntry(dtype, shape, digest)
        for (name, (dtype, shape)), digest in zip(kinds.items(), digests, strict=True)
    }
    return WrittenFile(written.num_bytes, written.digest, entries)


def header_bytes(kinds: Mapping[str, tuple[str, tuple[int, ...]]], metadata: Mapping[str, str] | None) -> bytes:
    """Returns what a file of ours begins with: it follows from the tensors' names, types and shapes alone.

    Args:
        kinds: name → dtype as safetensors names it, and shape; in the file's order.
        metadata: text → text.
    """
    table: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    offset = 0
    for name, (dtype, shape) in kinds.items():
        stop = offset + math.prod(shape) * DTYPES[dtype].itemsize
        table[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, stop]}
        offset = stop
    text = json.dumps(table, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


@dataclass(frozen=True)
class _FileBytes:
    """The bytes of a file, chunk by chunk; to be had again when an upload breaks on the way."""

    header: bytes
    tensors: Mapping[str, Tensor]

    def __iter__(self) -> Iterator[Readable]:
        yield self.header
        yield from map(tensor_bytes, self.tensors.values())


def tensor_bytes(tensor: Tensor) -> memoryview:
    """Returns the tensor's values in row-major order as bytes, without a copy where they already lie so on the CPU."""
    dense = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
    # A single value counts as contiguous whatever its stride, and keeps that stride through reshape.
    flat = dense.as_strided((dense.numel(),), (1,))
    return memoryview(flat.view(torch.uint8).numpy().data) if flat.numel() else memoryview(b"")


class TensorFile:
    """A safetensors file, opened for reading by mapping it into memory. Tensors are read only when asked for.

    Raises:
        CheckpointCorrupt: it is not a safetensors file, or its header contradicts its size.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            size = path.stat().st_size
            # Mode "c" (copy on write): torch wants writable memory, and nothing written there reaches the file.
            mapped = np.memmap(path, np.uint8, "c") if size else np.empty(0, np.uint8)
        except OSError as error:
            raise CheckpointCorrupt(f"{path}: cannot be read ({error.strerror or error}).") from error
        self._bytes = mapped.view(np.ndarray)  # a slice of it takes half the time that one of a memmap takes
        self._address = self._bytes.ctypes.data
        header = self._read_header(size)
        self.metadata: dict[str, str] = header.pop("__metadata__", {})
        self.entries: dict[str, dict[str, Any]] = header
        self._check_ranges(size)

    @property
    def num_bytes(self) -> int:
        """Size of the file."""
        return len(self._bytes)

    def keys(self) -> list[str]:
        """Names of the tensors, in the file's order."""
        return list(self.entries)

    def data(self) -> memoryview:
        """Returns all bytes of the file, mapped."""
        return self._bytes.data

    def header_data(self) -> memoryview:
        """Returns the bytes before the first tensor's, mapped."""
        return self._bytes[: self._start].data

    def tensor_data(self, name: str) -> memoryview:
        """Returns the bytes of one tensor, mapped."""
        start, stop = self.entries[name]["data_offsets"]
        return self._bytes[self._start + start : self._start + stop].data

    def span(self, name: str) -> tuple[int, int]:
        """Returns where in the file the bytes of one tensor begin and end."""
        start, stop = self.entries[name]["data_offsets"]
        return self._start + start, self._start + stop

    def position(self, tensor: Tensor) -> int | None:
        """Returns where in the file the values of a mapped tensor begin; None for one that does not show them as is."""
        start = tensor.data_ptr() - self._address
        plain = tensor.is_contiguous() and not (tensor.is_quantized or tensor.is_conj() or tensor.is_neg())
        return start if plain and tensor.numel() and 0 <= start < self.num_bytes else None

    def tensor(self, name: str) -> Tensor:
        """Returns one tensor on the CPU, mapped: its pages are read when they are touched."""
        entry = self.entries[name]
        dtype, shape = DTYPES[entry["dtype"]], entry["shape"]
        start, stop = entry["data_offsets"]
        if start == stop:
            return torch.empty(shape, dtype=dtype)
        raw = torch.from_numpy(self._bytes[self._start + start : self._start + stop])
        if (self._start + start) % dtype.itemsize:
            raw = raw.clone()  # other writers do not always align
        return raw.view(dtype).reshape(shape)

    def _read_header(self, size: int) -> dict[str, Any]:
        length = int.from_bytes(self._bytes[:8].tobytes(), "little") if size >= 8 else -1
        self._start = 8 + length
        if not 2 <= length <= min(_MAX_HEADER, size - 8):
            raise CheckpointCorrupt(f"{self.path}: not a safetensors file, or cut short ({size:,} bytes).")
        try:
            header = json.loads(self._bytes[8 : self._start].tobytes())
        except (ValueError, RecursionError) as error:
            raise CheckpointCorrupt(f"{self.path}: its header is damaged ({error}).") from error
        if not isinstance(header, dict) or not isinstance(header.get("__metadata__", {}), dict):
            raise CheckpointCorrupt(f"{self.path}: its header is not a table of tensors.")
        return header

    def _check_ranges(self, size: int) -> None:
        end = 0
        try:
            for name, entry in sorted(self.entries.items(), key=lambda item: tuple(item[1]["data_offsets"])):
                start, stop = entry["data_offsets"]
                if not all(type(number) is int and number >= 0 for number in (start, stop, *entry["shape"])):
                    raise ValueError(f"{name}: {entry}")
                count = math.prod(entry["shape"])
                if entry["dtype"] not in DTYPES:
                    raise CheckpointCorrupt(
                        f"{self.path}: {name} has the type {entry['dtype']!r}, which we do not know."
                    )
                if start != end or stop - start != count * DTYPES[entry["dtype"]].itemsize:
                    raise CheckpointCorrupt(f"{self.path}: {name} lies at bytes {start} to {stop}, which cannot be.")
                end = stop
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointCorrupt(f"{self.path}: its header is damaged ({error!r}).") from error
        if self._start + end != size:
            raise CheckpointCorrupt(f"{self.path}: {size:,} bytes; its header promises {self._start + end:,}.")
