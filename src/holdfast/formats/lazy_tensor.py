"""A tensor of a file, described: dtype, shape, strides, and where its bytes lie. It becomes one when asked.

Describing needs no torch; `to_torch` imports it. Tensors that shared memory when they were saved share it again.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeGuard

from holdfast.errors import CheckpointCorrupt, CheckpointError
from holdfast.formats.byte_file import Buffer
from holdfast.formats.inert import Damage, Record

if TYPE_CHECKING:
    import torch

# torch's types and the bytes of one value. Those of less than a byte are stored in one.
ITEM_BYTES: dict[str, int] = {
    **dict.fromkeys(("float64", "int64", "uint64", "complex64"), 8),
    **dict.fromkeys(("float32", "int32", "uint32", "qint32", "complex32", "bcomplex32"), 4),
    **dict.fromkeys(("float16", "bfloat16", "int16", "uint16", "bits16"), 2),
    **dict.fromkeys(("uint8", "int8", "bool", "quint8", "qint8", "quint4x2", "quint2x4"), 1),
    **dict.fromkeys(("bits8", "bits1x8", "bits2x4", "bits4x2", "float4_e2m1fn_x2"), 1),
    **dict.fromkeys(("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu"), 1),
    **{f"{sign}int{bits}": 1 for sign in ("", "u") for bits in range(1, 8)},
    "complex128": 16,
}
# The names that typed storages go by, and their values' type.
STORAGE_TYPES: dict[str, str] = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
    "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8",
    "ByteStorage": "uint8", "BoolStorage": "bool", "ComplexDoubleStorage": "complex128",
    "ComplexFloatStorage": "complex64", "QUInt8Storage": "quint8", "QInt8Storage": "qint8",
    "QInt32Storage": "qint32", "QUInt4x2Storage": "quint4x2", "QUInt2x4Storage": "quint2x4",
    "UntypedStorage": "uint8",
}  # fmt: skip
QUANTIZED = {"quint8", "qint8", "qint32", "quint4x2", "quint2x4"}
_MAX_AXES = 64


def is_count(value: Any) -> TypeGuard[int]:
    """Returns whether it is an integer from 0 to what a file can hold."""
    return type(value) is int and 0 <= value < 1 << 62


class ReadInto(Protocol):
    """Reads the bytes of a storage without keeping memory for them."""

    def __call__(self, target: memoryview | None, start: int = 0, *, proven: bool = False) -> None:
        """Fills memory with the bytes from `start`, and proves them on the way when they are all.

        Args:
            target: None proves all of them and keeps none.
            start: of the first byte; other than 0 only of what is proven.
            proven: they have been proven before, and are only read.
        """


class StoredBytes:
    """The bytes of one storage in a file. They are fetched once, and all tensors over them share that memory.

    Args:
        where: the file, for messages.
        key: what the file calls the storage.
        num_bytes: its size; None as long as it is not known.
        swap_bytes: of how many bytes a value is, whose order must be turned round; 1 for none.
        location: the device it was saved from, as the file says.

    Attributes:
        fetch: gives the bytes, proven, as memory of one's own.
        read_into: gives them without such memory; None where they do not lie in a file as they are.
    """

    __slots__ = ("_made", "fetch", "key", "location", "num_bytes", "read_into", "swap_bytes", "where")

    def __init__(self, where: str, key: str, num_bytes: int, location: str = "cpu", swap_bytes: int = 1) -> None:
        self.where = where
        self.key = key
        self.num_bytes = num_bytes
        self.location = location
        self.swap_bytes = swap_bytes
        self.fetch: Callable[[], Buffer] | None = None
        self.read_into: ReadInto | None = None
        self._made: torch.UntypedStorage | None = None

    def to_torch(self) -> torch.UntypedStorage:
        """Returns the bytes as a storage on the CPU, in this machine's byte order.

        Raises:
            CheckpointCorrupt: they are not all there, or do not match their checksum.
        """
        import torch

        if self._made is None:
            if not self.num_bytes:
                self._made = torch.UntypedStorage(0)
                return self._made
            memory, start, num_bytes = self._fetched()
            made = torch.frombuffer(memory, dtype=torch.uint8, offset=start, count=num_bytes)
            if made.data_ptr() % 16:  # some writers align nothing, and torch's kernels want whole values
                made = made.clone()
            if self.swap_bytes > 1:
                made = made.view(-1, self.swap_bytes).flip(1).reshape(-1)
            self._made = made.untyped_storage()
        return self._made

    @property
    def is_read(self) -> bool:
        """Whether the bytes are in memory already."""
        return self._made is not None

    def prove(self, *, keep: bool = False) -> None:
        """Does nothing when the bytes are all there and match their checksum. Raises as `to_torch`.

        Args:
            keep: leaves them in memory; else nothing is left of them.
        """
        if self.is_read or not self.num_bytes:
            return
        if keep:
            self.to_torch()
        elif self.read_into is not None:
            self.read_into(None)
        else:
            self._fetched()

    def forget(self) -> None:
        """Lets go of the memory; tensors over it that somebody has keep theirs."""
        self._made = None

    def _fetched(self) -> Buffer:
        if self.fetch is None:
            raise CheckpointError(f"Reading {self.where}: it has no bytes for storage {self.key}.")
        return self.fetch()


class Storage(Record):
    """Values of one type within stored bytes: `num_values` of `dtype`, the first at byte `start`."""

    __slots__ = ("data", "dtype", "num_values", "start")

    def __init__(self, data: StoredBytes, dtype: str, num_values: int, start: int = 0) -> None:
        self.data = data
        self.dtype = dtype
        self.num_values = num_values
        self.start = start


class LazyTensor(Record):
    """A tensor in a file.

    Attributes:
        storage: what it is a view of.
        dtype: as torch names it: "float32".
        shape, strides: its extents, and the steps in memory, in values.
        offset: of its first value in the storage, in values.
        is_parameter, requires_grad: what it was when it was saved.
        flags: "conj" and "neg", for values that are to be conjugated or negated.
    """

    __slots__ = ("dtype", "flags", "is_parameter", "offset", "requires_grad", "shape", "storage", "strides")

    def __init__(
        self,
        storage: Storage,
        dtype: str,
        offset: int,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
        *,
        requires_grad: bool = False,
        flags: tuple[str, ...] = (),
    ) -> None:
        if not all(type(numbers) is tuple and all(map(is_count, numbers)) for numbers in (shape, strides, (offset,))):
            raise Damage("a tensor whose shape, strides or offset are not tuples of counts")
        if len(shape) != len(strides) or len(shape) > _MAX_AXES:
            raise Damage(f"a tensor of {len(shape)} extents and {len(strides)} strides")
        if dtype not in ITEM_BYTES:
            raise Damage(f"a tensor of the type {dtype[:40]!r}")
        self.storage, self.dtype, self.offset = storage, dtype, offset
        self.shape, self.strides = tuple(shape), tuple(strides)
        self.requires_grad, self.is_parameter, self.flags = requires_grad, False, flags
        if self.num_bytes >= 1 << 62:
            raise Damage(f"a tensor of {self.num_values:,} values")
        last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
        there = storage.num_values * ITEM_BYTES[storage.dtype] // ITEM_BYTES[dtype]
        if self.num_values and last >= there:
            raise Damage(f"a tensor that reaches to value {last:,} of a storage of {there:,}")

    @property
    def num_values(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def num_bytes(self) -> int:
        """Bytes of its values, without gaps."""
        return self.num_values * ITEM_BYTES[self.dtype]

    def build(self, state: Any) -> None:
        """Takes note of `requires_grad`, which very old files write as a state, and of nothing else."""
        if type(state) is tuple and state and type(state[0]) is bool:
            self.requires_grad = state[0]

    def to_torch(self) -> torch.Tensor:
        """Returns the tensor on the CPU, without gradient; others over the same storage share its memory.

        Raises:
            CheckpointCorrupt: its bytes are not all there, or do not match their checksum.
            CheckpointError: this torch has no such type.
        """
        import torch

        dtype = self.torch_dtype()
        storage, first = self.storage.data.to_torch(), self.storage.start
        if first:
            storage = storage[first : first + self.storage.num_values * ITEM_BYTES[self.storage.dtype]]
        try:
            tensor = torch.empty(0, dtype=dtype).set_(storage, self.offset, self.shape, self.strides)
            tensor = tensor.conj() if "conj" in self.flags else tensor
            return torch._neg_view(tensor) if "neg" in self.flags else tensor
        except RuntimeError as error:
            where = self.storage.data.where
            raise CheckpointCorrupt(f"Reading {where}: torch makes no tensor of {self!r} ({error}).") from error

    def torch_dtype(self) -> torch.dtype:
        """Returns the type as torch has it. Raises CheckpointError when values of it make no tensor."""
        import torch

        dtype = getattr(torch, self.dtype, None)
        if not isinstance(dtype, torch.dtype) or self.dtype in QUANTIZED:
            raise CheckpointError(
                f"Reading {self.storage.data.where}: torch {torch.__version__} makes no tensor of torch.{self.dtype} "
                "from its values alone."
            )
        return dtype

    def copy_into(self, target: torch.Tensor, *, proven: bool = False) -> None:
        """Writes the values into a tensor that is there, of the same shape and any type, on any device.

        Tensors of the same type and layout go from the file straight into the target's memory and are proven on the
        way, in one pass; when that fails the target holds no one's values.

        Args:
            target: written to as it is, so a parameter's `.detach()`.
            proven: `proving.prove` has been through them: nothing is proven again, and nothing kept in memory.

        Raises:
            CheckpointCorrupt, CheckpointError: as `to_torch`.
            ValueError: its shape is another one.
        """
        from holdfast.formats.copying import copy_into

        copy_into(self, target, proven=proven)

    def __repr__(self) -> str:
        return f"<{self.dtype} {list(self.shape)}>"


def swapped(byte_order: str, dtype: str) -> int:
    """Returns of how many bytes each is what must be turned round to read `dtype` here: 1 when nothing must."""
    if byte_order == sys.byteorder:
        return 1
    return ITEM_BYTES[dtype] // (2 if "complex" in dtype else 1)
