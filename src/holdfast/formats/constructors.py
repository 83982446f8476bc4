"""The closed table: the few names whose calls in a pickle are turned into values, because what they make is plain.

Everything here takes its arguments apart itself. Arguments that the real function never writes are left to the caller,
who makes an inert record of them (NotImplemented says so); a tensor that cannot be is Damage.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

from holdfast.formats.arrays import ADDED_TYPES, ArrayType, InertArray
from holdfast.formats.inert import Damage, Global, InertObject, TorchName, TorchSize
from holdfast.formats.lazy_tensor import ITEM_BYTES, LazyTensor, Storage
from holdfast.formats.other_devices import FROM_ARRAY, FROM_TENSOR, of_other_device

Args = tuple[Any, ...]


class Charge(NamedTuple):
    """What a constructor has to ask first: `memory(num_bytes)` for what it copies, `key(value)` for every key."""

    memory: Callable[[int], None]
    key: Callable[[Any], None]


Constructor = Callable[[Args, Charge], Any]


def _pairs(value: Any, charge: Charge) -> list[tuple[Any, Any]]:
    """Returns the pairs that an OrderedDict, a Counter … is made of; they are to be copied."""
    if isinstance(value, dict):
        charge.memory(72 * len(value))
        return list(value.items())
    if type(value) not in (list, tuple) or not all(type(p) in (list, tuple) and len(p) == 2 for p in value):
        raise Damage("a dictionary made of something else than pairs")
    charge.memory(72 * len(value))
    for key, _ in value:
        charge.key(key)
    return [(key, held) for key, held in value]


def _ordered_dict(args: Args, charge: Charge) -> Any:
    if len(args) > 1 or (args and not isinstance(args[0], (dict, list, tuple))):
        return NotImplemented
    return OrderedDict(_pairs(args[0], charge) if args else ())


def _dict(args: Args, charge: Charge) -> Any:
    if len(args) > 1 or (args and not isinstance(args[0], (dict, list, tuple))):
        return NotImplemented
    return dict(_pairs(args[0], charge) if args else ())


def _default_dict(args: Args, charge: Charge) -> Any:
    # The factory is code; the contents are all there is to it.
    return _dict(args[1:], charge) if len(args) in (0, 1, 2) else NotImplemented


def _list(args: Args, charge: Charge) -> Any:
    if len(args) > 2 or (args and type(args[0]) not in (list, tuple)):
        return NotImplemented
    charge.memory(8 * len(args[0]) if args else 0)
    return list(args[0]) if args else []


def _tuple(args: Args, charge: Charge) -> Any:
    made = _list(args, charge)
    return made if made is NotImplemented else tuple(made)


def _set(args: Args, charge: Charge) -> Any:
    if len(args) > 1 or (args and type(args[0]) not in (list, tuple, set, frozenset)):
        return NotImplemented
    values = args[0] if args else ()
    charge.memory(110 * len(values))
    for value in values:
        charge.key(value)
    return set(values)


def _frozenset(args: Args, charge: Charge) -> Any:
    made = _set(args, charge)
    return made if made is NotImplemented else frozenset(made)


def _encoded(args: Args, charge: Charge) -> Any:
    """Bytes as older protocols write them: text, one character a byte."""
    if len(args) != 2 or type(args[0]) is not str or args[1] not in ("latin1", "latin-1"):
        return NotImplemented
    charge.memory(len(args[0]))
    try:
        return args[0].encode("latin-1")
    except UnicodeEncodeError as error:
        raise Damage("bytes written as text, with a character that is no byte") from error


def _bytes(args: Args, charge: Charge) -> Any:
    if len(args) == 2:
        return _encoded(args, charge)
    if len(args) > 1 or (args and type(args[0]) not in (bytes, bytearray)):
        return NotImplemented
    charge.memory(len(args[0]) if args else 0)
    return bytes(args[0]) if args else b""


def _bytearray(args: Args, charge: Charge) -> Any:
    made = _bytes(args, charge)
    return made if made is NotImplemented else bytearray(made)


def _complex(args: Args, _: Charge) -> Any:
    return complex(*args) if len(args) == 2 and all(type(a) in (int, float) for a in args) else NotImplemented


def _slice(args: Args, _: Charge) -> Any:
    return slice(*args) if len(args) == 3 and all(a is None or type(a) is int for a in args) else NotImplemented


def _range(args: Args, _: Charge) -> Any:
    return range(*args) if 1 <= len(args) <= 3 and all(type(a) is int for a in args) else NotImplemented


def _size(args: Args, charge: Charge) -> Any:
    if len(args) != 1 or type(args[0]) not in (tuple, list) or not all(type(n) is int for n in args[0]):
        return NotImplemented
    charge.memory(8 * len(args[0]))
    return TorchSize(args[0])


def _device(args: Args, _: Charge) -> Any:
    if len(args) == 1 and type(args[0]) is str:
        return TorchName("device", args[0])
    if len(args) == 2 and type(args[0]) is str and type(args[1]) is int:
        return TorchName("device", f"{args[0]}:{args[1]}")
    return NotImplemented


def _layout(args: Args, _: Charge) -> Any:
    if len(args) != 1 or type(args[0]) is not str:
        return NotImplemented
    return TorchName("layout", args[0].removeprefix("torch."))


def _tensor(args: Args, _: Charge) -> LazyTensor:
    """(storage, offset, shape, strides[, requires_grad, hooks[, flags]])."""
    if not 4 <= len(args) <= 7 or not isinstance(args[0], Storage):
        raise Damage("a tensor without a storage")
    storage, offset, shape, strides = args[:4]
    flags = args[6] if len(args) == 7 else None
    return _described(storage, storage.dtype, offset, shape, strides, args[4] if len(args) > 4 else False, flags)


def _tensor_of_type(args: Args, _: Charge) -> LazyTensor:
    """(storage, offset, shape, strides, requires_grad, hooks, dtype[, flags]), the storage being untyped."""
    if not 7 <= len(args) <= 8 or not isinstance(args[0], Storage) or not isinstance(args[6], TorchName):
        raise Damage("a tensor without a storage or a type")
    storage, offset, shape, strides, requires_grad = args[:5]
    flags = args[7] if len(args) == 8 else None
    return _described(storage, args[6].name, offset, shape, strides, requires_grad, flags)


def _described(
    storage: Storage, dtype: str, offset: Any, shape: Any, strides: Any, requires_grad: Any, flags: Any
) -> LazyTensor:
    shape, strides = (tuple(v) if isinstance(v, (TorchSize, list)) and len(v) <= 64 else v for v in (shape, strides))
    names = tuple(k for k in ("conj", "neg") if flags.get(k) is True) if isinstance(flags, dict) else ()
    return LazyTensor(storage, dtype, offset, shape, strides, requires_grad=requires_grad is True, flags=names)


def _parameter(args: Args, _: Charge) -> Any:
    """(tensor[, requires_grad, hooks[, attributes]])."""
    if not 1 <= len(args) <= 4 or not isinstance(args[0], (LazyTensor, InertObject)):
        raise Damage("a parameter without a tensor")
    tensor = args[0]
    if isinstance(tensor, InertObject):
        return NotImplemented  # a quantised or sparse one; its record holds the tensor's
    made = LazyTensor(
        tensor.storage,
        tensor.dtype,
        tensor.offset,
        tensor.shape,
        tensor.strides,
        requires_grad=True,
        flags=tensor.flags,
    )
    made.is_parameter = True
    if len(args) > 1:
        made.requires_grad = args[1] is True
    return made


def _of_tensor_class(args: Args, charge: Charge) -> Any:
    """(function, class, its arguments, attributes): a tensor with attributes, or of a subclass."""
    if len(args) != 4 or not isinstance(args[0], Global) or type(args[2]) is not tuple:
        return NotImplemented
    function, kind, inner, state = args
    if function.full_name == _WRAPPER:
        return _whole_of_wrapper(inner, state)
    if function.full_name not in _TENSOR_FUNCTIONS or not isinstance(kind, Global):
        return NotImplemented
    made = _TENSOR_FUNCTIONS[function.full_name](inner, charge)
    if isinstance(made, LazyTensor) and kind.full_name == "torch.nn.parameter.Parameter":
        made.is_parameter = True
    return made


def _whole_of_wrapper(args: Args, state: Any) -> Any:
    """(class, dtype, shape, ...) and the attributes of a tensor over several processes: its part here, if it is all.

    FSDP2 and DTensor keep the values of this process in `_local_tensor`; alone, or replicated, they are the tensor.
    """
    parts = state if type(state) is tuple else (state,)
    held = next((p for p in parts if isinstance(p, dict) and isinstance(p.get("_local_tensor"), LazyTensor)), None)
    if held is None or len(args) < 3 or not isinstance(args[2], (TorchSize, tuple)):
        return NotImplemented
    local = held["_local_tensor"]
    return local if isinstance(local, LazyTensor) and local.shape == tuple(args[2]) else NotImplemented


def _of_other_device(args: Args, charge: Charge) -> Any:
    return of_other_device(args, charge.memory)


def _reconstructed(args: Args, _: Charge) -> Any:
    """(class, base, the base's value): an object as protocols 0 and 1 write it."""
    if len(args) != 3 or not isinstance(args[0], Global):
        return NotImplemented
    return InertObject(args[0].module, args[0].name, () if args[2] is None else (args[2],))


def _new_object(args: Args, _: Charge) -> Any:
    if not args or not isinstance(args[0], Global):
        return NotImplemented
    return InertObject(args[0].module, args[0].name, args[1:])


def _array_type(args: Args, _: Charge) -> Any:
    code = args[0] if args else None
    if isinstance(code, Global) and code.name in ADDED_TYPES:  # these are written as their class
        code = code.name
    return ArrayType(code) if type(code) is str and len(code) < 40 else NotImplemented


def _empty_array(args: Args, _: Charge) -> Any:
    wanted = args and isinstance(args[0], Global) and args[0].module.split(".")[0] == "numpy"
    wanted = wanted and args[0].name in ("ndarray", "matrix", "memmap")  # all of them keep the same state
    return InertArray() if wanted else NotImplemented


def _scalar(args: Args, _: Charge) -> Any:
    if len(args) != 2 or not isinstance(args[0], ArrayType) or not args[0].plain:
        return NotImplemented
    return InertArray().fill(args[0], (), args[1])


def _array_of_buffer(args: Args, _: Charge) -> Any:
    if len(args) != 4:
        return NotImplemented
    data, dtype, shape, order = args
    return InertArray().fill(dtype, shape, data, column_major=order == "F")


_WRAPPER = "torch._utils._rebuild_wrapper_subclass"
_TENSOR_FUNCTIONS: dict[str, Constructor] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_of_type,
}
_BUILTINS: dict[str, Constructor] = {
    "set": _set, "frozenset": _frozenset, "complex": _complex, "bytes": _bytes, "bytearray": _bytearray,
    "slice": _slice, "range": _range, "xrange": _range, "list": _list, "tuple": _tuple, "dict": _dict,
}  # fmt: skip

CONSTRUCTORS: dict[tuple[str, str], Constructor] = {
    **{(m, name): make for m in ("builtins", "__builtin__") for name, make in _BUILTINS.items()},
    ("collections", "OrderedDict"): _ordered_dict,
    ("collections", "Counter"): _dict,
    ("collections", "defaultdict"): _default_dict,
    ("collections", "deque"): _list,
    ("_codecs", "encode"): _encoded,
    **{(m, "_reconstructor"): _reconstructed for m in ("copy_reg", "copyreg")},
    **{(m, "__newobj__"): _new_object for m in ("copy_reg", "copyreg")},
    **{tuple(name.rsplit(".", 1)): make for name, make in _TENSOR_FUNCTIONS.items()},  # type: ignore[misc]
    **{("torch._utils", name): _of_other_device for name in FROM_ARRAY + FROM_TENSOR},
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
    ("torch.nn.parameter", "Parameter"): _parameter,
    ("torch.nn", "Parameter"): _parameter,
    ("torch.autograd.variable", "Variable"): _parameter,
    ("torch._tensor", "_rebuild_from_type_v2"): _of_tensor_class,
    ("torch.tensor", "_rebuild_from_type_v2"): _of_tensor_class,
    ("torch", "Size"): _size,
    ("torch", "device"): _device,
    ("torch.serialization", "_get_layout"): _layout,
    ("numpy", "dtype"): _array_type,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _empty_array for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _array_of_buffer for core in ("core", "_core")},
}
# Names that are values themselves.
VALUES: dict[tuple[str, str], TorchName] = {("torch", name): TorchName("dtype", name) for name in ITEM_BYTES}
