"""The table of contents of a torch.distributed.checkpoint directory, `.metadata`: a pickle, read inertly.

It says of each name its type and shape, into which pieces it was cut, and in which bytes of which file each piece lies.
What is here are plain tuples that have been checked against each other; the files themselves are not opened.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from holdfast.errors import CheckpointCorrupt, CheckpointError
from holdfast.formats.byte_file import ByteFile
from holdfast.formats.inert import Damage, InertObject, TorchName, TorchSize
from holdfast.formats.lazy_tensor import ITEM_BYTES, is_count
from holdfast.formats.limits import LIMITS, Limits
from holdfast.formats.pickle_machine import read_pickle
from holdfast.formats.shards import check_neighbour
from holdfast.formats.tiling import Box, check_tiling

_MAX_PATH = 100  # steps from the root of a saved tree to one of its values
_MAX_PIECES = 300_000  # of all tensors together; a thousand ranks with three hundred tensors
_EXPECTED = "expected what torch.distributed.checkpoint writes. It is damaged or of another kind; take another copy."


class Place(NamedTuple):
    """Where bytes lie: `num_bytes` bytes of `file` from `start`."""

    file: str
    start: int
    num_bytes: int


class ChunkedTensor(NamedTuple):
    """A tensor in pieces.

    Attributes:
        dtype: as torch names it.
        shape: of the whole.
        chunks: its pieces, each with the place of its bytes; together they tile the whole.
    """

    dtype: str
    shape: tuple[int, ...]
    chunks: list[tuple[Box, Place]]


class DcpMetadata(NamedTuple):
    """What a directory holds.

    Attributes:
        tensors: name → tensor in pieces.
        objects: name → place of a value that is no tensor.
        paths: name → the keys and positions that lead to it in the tree that was saved; empty for a flat one.
    """

    tensors: dict[str, ChunkedTensor]
    objects: dict[str, Place]
    paths: dict[str, tuple[str | int, ...]]


def read_dcp_metadata(path: str, limits: Limits = LIMITS) -> DcpMetadata:
    """Reads a directory's `.metadata`.

    Args:
        path: of that file.

    Raises:
        CheckpointCorrupt: it is damaged, or the pieces of a tensor overlap, leave a hole or have no place.
        CheckpointError: it leads out of the directory, is compressed, or asks for more than the limits allow.
    """
    file = ByteFile(path)
    root = read_pickle(file.whole(), file.where, limits=limits).value
    try:
        named = _table(root, "Metadata", "state_dict_metadata")
        places = _places(_table(root, "Metadata", "storage_data"), file.where)
        tensors: dict[str, ChunkedTensor] = {}
        objects: dict[str, Place] = {}
        num_pieces = 0
        for name, entry in named.items():
            if type(name) is not str or not isinstance(entry, InertObject):
                raise Damage(f"an entry {name!r:.80} that is no record of a value")
            if entry.name == "TensorStorageMetadata":
                num_pieces += _length(entry.attributes.get("chunks"))
                if num_pieces > _MAX_PIECES:
                    raise Damage(f"more than {_MAX_PIECES:,} pieces of tensors")
                tensors[name] = _tensor(name, entry, places)
            elif entry.name == "BytesStorageMetadata":
                objects[name] = _place(name, None, places)
            else:
                raise Damage(f"an entry {name!r:.80} of the kind {entry.full_name[:80]}")
        paths = _paths(root.attributes.get("planner_data"), named)
    except Damage as damage:
        raise CheckpointCorrupt(f"Reading {file.where}: found {damage}; {_EXPECTED}") from None
    _check_apart([place for spread in places.values() for place in spread.values()], file.where)
    return DcpMetadata(tensors, objects, paths)


def _table(root: Any, kind: str, key: str) -> dict[Any, Any]:
    held = root.attributes.get(key) if isinstance(root, InertObject) and root.name == kind else None
    if not isinstance(held, dict) or not root.module.startswith("torch.distributed"):
        raise Damage(f"no {kind} with {key}")
    return held


Offset = tuple[int, ...] | None


def _places(table: dict[Any, Any], where: str) -> dict[str, dict[Offset, Place]]:
    """Returns name → offset of a piece (None of what is no tensor) → place."""
    found: dict[str, dict[Offset, Place]] = {}
    for index, info in table.items():
        if not isinstance(index, InertObject) or not isinstance(info, InertObject):
            raise Damage("a place that is no record of one")
        name, offset = index.attributes.get("fqn"), index.attributes.get("offset")
        held = info.attributes
        file, start, num_bytes = held.get("relative_path"), held.get("offset"), held.get("length")
        if type(name) is not str or type(file) is not str or not is_count(start) or not is_count(num_bytes):
            raise Damage(f"a place of {name!r:.80} without a file, an offset or a length")
        check_neighbour(where, file)
        if pipeline := held.get("transform_descriptors"):
            raise CheckpointError(
                f"Reading {where}: {name[:200]!r} was stored through {_shown(pipeline)}; expected bytes as torch.save "
                "writes them. Load it with the torch that wrote it and save it again without such an extension."
            )
        found.setdefault(name, {})[None if offset is None else _counts(offset)] = Place(file, start, num_bytes)
    return found


def _shown(pipeline: Any) -> str:
    words = pipeline if isinstance(pipeline, (list, tuple)) else []
    return ", ".join(word[:40] for word in words[:5] if type(word) is str) or "an extension"


def _place(name: str, offset: Offset, places: dict[str, dict[Offset, Place]]) -> Place:
    found = places.get(name, {}).get(offset)
    if found is None:
        piece = "" if offset is None else f"the piece at {list(offset)} of "
        raise Damage(f"no place for {piece}{name[:200]!r}")
    return found


def _tensor(name: str, entry: InertObject, places: dict[str, dict[Offset, Place]]) -> ChunkedTensor:
    shape, pieces = _counts(entry.attributes.get("size")), entry.attributes.get("chunks")
    dtype = _dtype(entry.attributes.get("properties"))
    if dtype not in ITEM_BYTES or not isinstance(pieces, list):
        raise Damage(f"{name[:200]!r} without a type or pieces")
    boxes = dict.fromkeys(_box(piece) for piece in pieces)  # replicas were listed twice before torch 2.3
    try:
        check_tiling(shape, list(boxes))
    except Damage as damage:
        raise Damage(f"{name[:200]!r} in {damage}") from None
    chunks = [(box, _place(name, box.offsets, places)) for box in boxes if 0 not in box.sizes]
    for box, place in chunks:
        num_bytes = ITEM_BYTES[dtype]
        for size in box.sizes:
            num_bytes *= size
        if num_bytes > place.num_bytes:
            raise Damage(f"{num_bytes:,} bytes of {name[:200]!r} in {place.num_bytes:,} bytes of {place.file}")
    return ChunkedTensor(dtype, shape, chunks)


def _length(value: Any) -> int:
    return len(value) if isinstance(value, list) else 1


def _box(piece: Any) -> Box:
    if not isinstance(piece, InertObject):
        raise Damage("a piece that is no record of one")
    return Box(_counts(piece.attributes.get("offsets")), _counts(piece.attributes.get("sizes")))


def _counts(value: Any) -> tuple[int, ...]:
    if not isinstance(value, (TorchSize, tuple, list)) or len(value) > 64 or not all(map(is_count, value)):
        raise Damage("a size or an offset that is no tuple of counts")
    return tuple(value)


def _dtype(properties: Any) -> str:
    """Returns the type that a tensor's properties name: the first of a tuple, an attribute in files of before 2.0."""
    state = properties.state if isinstance(properties, InertObject) else None
    kind = state[0] if type(state) is tuple and state else state.get("dtype") if isinstance(state, dict) else None
    return kind.name if isinstance(kind, TorchName) and kind.kind == "dtype" else ""


def _paths(table: Any, named: dict[Any, Any]) -> dict[str, tuple[str | int, ...]]:
    """Returns the way to each name in the tree that was saved, as far as the file says."""
    if not isinstance(table, dict):
        return {}
    found: dict[str, tuple[str | int, ...]] = {}
    for name, path in table.items():
        if name not in named:
            continue
        if type(path) is not tuple or not 0 < len(path) <= _MAX_PATH:
            raise Damage(f"a way to {name!r:.80} that is no tuple of keys")
        if not all(type(step) is str or is_count(step) for step in path) or type(path[0]) is not str:
            raise Damage(f"a way to {name!r:.80} over something that is neither a key nor a position")
        found[name] = path
    return found


def _check_apart(places: list[Place], where: str) -> None:
    """Raises CheckpointCorrupt when two values share bytes: a small file could stand for any number of values."""
    last = Place("", 0, 0)
    for place in sorted(set(places)):
        if place.file == last.file and place.start < last.start + last.num_bytes:
            raise CheckpointCorrupt(
                f"Reading {where}: found two values over byte {place.start:,} of {place.file}; expected each in bytes "
                "of its own. It is damaged; take another copy of it."
            )
        last = place
