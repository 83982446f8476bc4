"""NumPy's arrays, scalars and types in a pickle, read without NumPy; as tensors or arrays when they are asked for."""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Any

from holdfast.errors import CheckpointError
from holdfast.formats.byte_file import Buffer
from holdfast.formats.inert import Damage, Record
from holdfast.formats.lazy_tensor import ITEM_BYTES, LazyTensor, Storage, StoredBytes, is_count, swapped
from holdfast.formats.safetensors_file import row_major

if TYPE_CHECKING:
    import numpy as np

_PLAIN = frozenset("?bhilqBHILQefdFDSUbBmMicu")  # letters of types that hold no references
# NumPy's letter and size → struct's.
_STRUCT = {
    "b1": "?", "i1": "b", "i2": "h", "i4": "i", "i8": "q", "u1": "B", "u2": "H", "u4": "I", "u8": "Q",
    "f2": "e", "f4": "f", "f8": "d",
}  # fmt: skip

# NumPy's letter and size → torch's type.
TORCH_TYPES = {
    "f8": "float64", "f4": "float32", "f2": "float16", "i8": "int64", "i4": "int32", "i2": "int16", "i1": "int8",
    "u8": "uint64", "u4": "uint32", "u2": "uint16", "u1": "uint8", "b1": "bool", "?": "bool", "c8": "complex64",
    "c16": "complex128",
}  # fmt: skip
# Types that ml_dtypes adds to NumPy, by its names and torch's: JAX's arrays have them.
ADDED_TYPES = ("bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu")
TORCH_TYPES |= {name: name for name in ADDED_TYPES}


class ArrayType(Record):
    """A NumPy dtype.

    Attributes:
        code: NumPy's letter and the bytes of a value: "f4", "U10"; the name of a type that ml_dtypes adds.
        order: "<", ">" or "|".
        plain: whether it is a simple one; structures and references are not.
    """

    __slots__ = ("code", "order", "plain")

    def __init__(self, code: str) -> None:
        self.order = "|"
        if code[:1] in "<>|=":
            self.order, code = code[0].replace("=", "<"), code[1:]
        self.code = {"?": "b1"}.get(code, code)
        kind, size = self.code[:1], self.code[1:]
        self.plain = code in ADDED_TYPES or (
            kind in _PLAIN and size.isascii() and size.isdigit() and 0 < int(size[:9]) < 1 << 20
        )

    @property
    def item_bytes(self) -> int:
        """Bytes of one value, of a plain type."""
        if self.code in ADDED_TYPES:
            return ITEM_BYTES[self.code]
        return int(self.code[1:]) * (4 if self.code[0] == "U" else 1)

    def build(self, state: Any) -> None:
        """Takes byte order and structure: (version, order, subtype, names, fields, size, alignment, flags)."""
        if type(state) is not tuple or len(state) < 5 or state[1] not in ("<", ">", "|", "=", b"<", b">", b"|", b"="):
            raise Damage("a state that is none of a NumPy type")
        order = state[1] if isinstance(state[1], str) else state[1].decode()
        self.order = order.replace("=", "<")
        self.plain = self.plain and state[2:5] == (None, None, None)

    def __repr__(self) -> str:
        return f"<numpy {self.order}{self.code[:20]}>"


class InertArray(Record):
    """A NumPy array or scalar.

    Attributes:
        dtype: of its values; None until the pickle says.
        shape: its extents.
        data: its bytes; a list for an array of Python objects.
        column_major: the order in which the bytes lie.
    """

    __slots__ = ("_tensor", "column_major", "data", "dtype", "shape")

    def __init__(self) -> None:
        self.dtype: ArrayType | None = None
        self.shape: tuple[int, ...] = ()
        self.data: bytes | bytearray | list[Any] = b""
        self.column_major = False
        self._tensor: LazyTensor | None = None

    def fill(self, dtype: Any, shape: Any, data: Any, *, column_major: bool = False) -> InertArray:
        """Takes what an array consists of and returns it. Raises Damage when that does not fit together."""
        if isinstance(data, str):  # Python 2 wrote the bytes as text
            data = data.encode("utf-8", "surrogatepass")
        if isinstance(dtype, Record) and not isinstance(dtype, ArrayType):
            dtype = ArrayType("V0")  # of a class of its own: the array stays a record, and the file around it is read
        if not isinstance(dtype, ArrayType) or not isinstance(shape, tuple) or not all(map(is_count, shape)):
            raise Damage("an array without a type or a shape")
        if not isinstance(data, (bytes, bytearray, list)) or len(shape) > 64:
            raise Damage("an array whose values are no bytes")
        if dtype.plain and (isinstance(data, list) or math.prod(shape) * dtype.item_bytes != len(data)):
            raise Damage(f"an array of shape {list(shape)} and type {dtype.code} in {len(data):,} bytes")
        self.dtype, self.shape, self.data, self.column_major = dtype, tuple(shape), data, column_major
        return self

    def build(self, state: Any) -> None:
        """Takes (version, shape, type, column-major, data), as NumPy writes it."""
        if type(state) is not tuple or len(state) not in (4, 5):
            raise Damage("a state that is none of an array")
        shape, dtype, column_major, data = state[-4:]
        self.fill(dtype, shape, data, column_major=column_major is True)

    def item(self) -> Any:
        """Returns the one value of a scalar as a Python number or text; None for what is no such scalar."""
        if self.dtype is None or not self.dtype.plain or math.prod(self.shape) != 1 or isinstance(self.data, list):
            return None
        if letter := _STRUCT.get(self.dtype.code):
            return struct.unpack(f"{'>' if self.dtype.order == '>' else '<'}{letter}", self.data)[0]
        if self.dtype.code[0] == "U" and self.dtype.order != ">":
            return bytes(self.data).decode("utf-32-le", "replace").rstrip("\0")
        return None

    def text(self) -> Any:
        """Returns an array of text as a text, or as lists of them as deep as its axes; None for other arrays."""
        if self.dtype is None or not self.dtype.plain or self.dtype.code[0] not in "US" or isinstance(self.data, list):
            return None
        code = "utf-32-be" if self.dtype.order == ">" else "utf-32-le"
        code, width = ("latin-1" if self.dtype.code[0] == "S" else code), self.dtype.item_bytes
        raw = bytes(self.data)
        made = [raw[i : i + width].decode(code, "replace").rstrip("\0") for i in range(0, len(raw), width)]
        return _nested(made, self.shape)

    def as_tensor(self) -> LazyTensor | None:
        """Returns the array as a lazy tensor, the same one each time; None for text, structures and Python objects."""
        if self._tensor is None and self.dtype is not None and self.dtype.plain and not isinstance(self.data, list):
            name = TORCH_TYPES.get(self.dtype.code)
            if name is not None:
                self._tensor = _tensor_of(self.data, name, self.dtype.order, self.shape, self.column_major)
        return self._tensor

    def to_numpy(self) -> np.ndarray[Any, Any]:
        """Returns the array, with memory of its own. Raises CheckpointError for structures and Python objects."""
        import numpy as np

        if self.dtype is None or not self.dtype.plain or isinstance(self.data, list) or self.dtype.code in ADDED_TYPES:
            raise CheckpointError(
                "An array of structures or of Python objects, or of a type that NumPy does not have, is not made; its "
                "record is all there is."
            )
        flat = np.frombuffer(bytes(self.data), np.dtype(self.dtype.order.replace("|", "<") + self.dtype.code))
        return flat.reshape(self.shape, order="F" if self.column_major else "C").copy("K")

    def __repr__(self) -> str:
        return f"<array {self.dtype!r} {list(self.shape)}>"


def _nested(values: list[str], shape: tuple[int, ...]) -> Any:
    """Returns values, in the order of rows, as lists of lists."""
    if not shape:
        return values[0]
    if len(shape) == 1 or not values:
        return values
    step = len(values) // shape[0]
    return [_nested(values[i : i + step], shape[1:]) for i in range(0, len(values), step)]


def _tensor_of(
    values: bytes | bytearray, dtype: str, order: str, shape: tuple[int, ...], column_major: bool
) -> LazyTensor:
    data = StoredBytes("an array", "of the pickle", len(values))
    data.swap_bytes = swapped("big" if order == ">" else "little", dtype)
    data.fetch = lambda: Buffer(bytearray(values), 0, len(values))
    strides = row_major(shape[::-1])[::-1] if column_major else row_major(shape)
    return LazyTensor(Storage(data, dtype, math.prod(shape)), dtype, 0, shape, strides)
