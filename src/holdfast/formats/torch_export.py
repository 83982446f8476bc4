"""A program of `torch.export.save` (`.pt2`): its weights by their full names. The program itself is not looked at.

Three layouts have been written. Since torch 2.9: raw bytes of each storage, `data/weights/weight_0` …, and JSON that
says of each name its type, shape and place in them. Before: the state dict as a file of `torch.save` within the
archive, `data/weights/model.pt` or `serialized_state_dict.pt` (`.json` in 2.1, which it is not).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from holdfast.errors import CheckpointCorrupt, CheckpointError
from holdfast.formats.byte_file import Buffer, Bytes
from holdfast.formats.inert import Damage
from holdfast.formats.lazy_tensor import ITEM_BYTES, LazyTensor, Storage, StoredBytes, is_count, swapped
from holdfast.formats.limits import LIMITS, Limits
from holdfast.formats.module_tree import is_tensor
from holdfast.formats.torch_zip import read_torch_zip
from holdfast.formats.zip_archive import ZipArchive

_MAX_JSON = 32 << 20  # bytes; a hundred thousand weights
_CONFIG = re.compile(r"(?P<folder>(?:[^/]*/)?data/weights/)(?P<program>[^/]+)_weights_config\.json")
_WHOLE = re.compile(r"(?:[^/]*/)?(?:data/weights/(?P<program>[^/]+)\.pt|serialized_state_dict\.(?:pt|json))")
# The numbers that stand for types. Source: ScalarType in torch's export schema.
_TYPES = {
    1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32", 8: "float64",
    9: "complex32", 10: "complex64", 11: "complex128", 12: "bool", 13: "bfloat16", 28: "uint16",
    29: "float8_e4m3fn", 30: "float8_e5m2", 31: "float8_e4m3fnuz", 32: "float8_e5m2fnuz", 33: "float8_e8m0fnu",
    34: "uint32", 35: "uint64",
}  # fmt: skip
_STRIDED = 7


def read_torch_export(file: Bytes, limits: Limits = LIMITS) -> dict[str, dict[str, Any]]:
    """Returns program → name → tensor; most archives hold one program, called "model". Tensors stay in the file.

    Raises:
        CheckpointCorrupt: it is damaged, or its tensors do not lie where its JSON says.
        CheckpointError: there are no weights in it, or it asks for more than the limits allow.
    """
    archive = ZipArchive(file, limits)
    found: dict[str, dict[str, Any]] = {}
    for entry in archive.entries:
        if config := _CONFIG.fullmatch(entry):
            found[config["program"]] = _described(archive, entry, config["folder"], limits)
        elif whole := _WHOLE.fullmatch(entry):
            found.setdefault(whole["program"] or "model", _saved(archive, entry, limits))
    if not found:
        raise CheckpointError(
            f"Reading {file.where}: it is an archive of torch.export without weights, compiled code perhaps; expected "
            "data/weights/ or serialized_state_dict.pt. Open the program, or the checkpoint, that it was made from."
        )
    return found


def _saved(archive: ZipArchive, entry: str, limits: Limits) -> dict[str, Any]:
    """Returns a state dict that is a file of torch.save within the archive."""
    where = f"{archive.file.where} ({entry[:200]})"
    if not archive.entries[entry].num_bytes:
        return {}
    tree = read_torch_zip(archive.open(entry), limits).tree
    if not isinstance(tree, dict) or not all(type(k) is str and is_tensor(v) for k, v in tree.items()):
        raise CheckpointCorrupt(f"Reading {where}: found no state dict; expected names with tensors. It is damaged.")
    return dict(tree)


def _described(archive: ZipArchive, entry: str, folder: str, limits: Limits) -> dict[str, Any]:
    """Returns the tensors that a table in JSON speaks of."""
    where = f"{archive.file.where} ({entry[:200]})"
    try:
        table = json.loads(archive.read(entry, _MAX_JSON))
    except (ValueError, RecursionError) as error:
        raise CheckpointCorrupt(f"Reading {where}: it is no JSON ({error}). Take another copy of the file.") from error
    table = table.get("config") if isinstance(table, dict) else None
    if not isinstance(table, dict):
        raise CheckpointCorrupt(f"Reading {where}: it has no `config` of weights. Take another copy of the file.")
    payloads: dict[str, StoredBytes] = {}
    found: dict[str, Any] = {}
    for name, facts in table.items():
        try:
            found[name] = _tensor(archive, folder, facts, payloads, limits)
        except Damage as damage:
            raise CheckpointCorrupt(
                f"Reading {where}: found {damage} as {name[:200]!r}; expected a weight of torch.export. It is damaged; "
                "take another copy of it."
            ) from None
    return found


def _tensor(
    archive: ZipArchive, folder: str, facts: Any, payloads: dict[str, StoredBytes], limits: Limits
) -> LazyTensor | Any:
    file = facts.get("path_name") if isinstance(facts, dict) else None
    if type(file) is not str or "/" in file or folder + file not in archive.entries:
        raise Damage(f"a weight in {file!r:.200}, which the archive does not have")
    if facts.get("use_pickle") is True:  # a tensor of a class of its own
        value = read_torch_zip(archive.open(folder + file), limits).tree
        if not is_tensor(value):
            raise Damage(f"{value!r:.200}")
        return value
    meta = facts.get("tensor_meta")
    kind = meta.get("dtype") if isinstance(meta, dict) else None
    if type(kind) is not int or kind not in _TYPES or meta.get("layout", _STRIDED) != _STRIDED:
        raise Damage("a weight without a type, or in a layout that has none of its own")
    dtype, num_bytes = _TYPES[kind], archive.entries[folder + file].num_bytes
    if file not in payloads:
        payloads[file] = StoredBytes(archive.file.where, file, num_bytes, "cpu", swapped("little", dtype))
        payloads[file].fetch = _fetch(archive, folder + file)
    storage = Storage(payloads[file], dtype, num_bytes // ITEM_BYTES[dtype])
    shape, strides = (_counts(meta.get(key)) for key in ("sizes", "strides"))
    made = LazyTensor(storage, dtype, _count(meta.get("storage_offset")), shape, strides)
    made.is_parameter = facts.get("is_param") is True
    made.requires_grad = meta.get("requires_grad") is True
    return made


def _counts(values: Any) -> tuple[int, ...]:
    if not isinstance(values, list) or len(values) > 64:
        raise Damage("a shape that is no list")
    return tuple(_count(value) for value in values)


def _count(value: Any) -> int:
    """Returns a number, which stands in a table that could also hold an expression."""
    number = value.get("as_int") if isinstance(value, dict) else value
    if not is_count(number):
        raise Damage("a shape, a stride or an offset that is no count")
    return number


def _fetch(archive: ZipArchive, entry: str) -> Callable[[], Buffer]:
    return lambda: archive.buffer(entry)
