"""A directory of torch.distributed.checkpoint: tensors in pieces, over any number of files and ranks, as one tree.

`dcp_metadata.py` reads what there is; here the tree that was saved is put together again. A tensor stays in its files
until it is asked for; only then are its pieces read, proven by their archives' checksums, and laid side by side.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any

from holdfast.errors import CheckpointCorrupt
from holdfast.formats.byte_file import Buffer, ByteFile, FileSlice
from holdfast.formats.dcp_metadata import ChunkedTensor, DcpMetadata, Place, read_dcp_metadata
from holdfast.formats.flat_optimizer import as_optimizer
from holdfast.formats.lazy_tensor import ITEM_BYTES, LazyTensor, Storage, StoredBytes
from holdfast.formats.limits import LIMITS, Limits
from holdfast.formats.safetensors_file import row_major
from holdfast.formats.tiling import Box, side_by_side
from holdfast.formats.torch_zip import read_torch_zip

METADATA = ".metadata"
# What a small value may ask for: more than any real one, and together bounded by the size of the files.
_OBJECT_MEMORY, _OBJECT_RATIO = 64 << 10, 64


def read_dcp(folder: str, limits: Limits = LIMITS) -> dict[str, Any]:
    """Returns the tree that a directory holds; its tensors stay in their files.

    Args:
        folder: the directory with `.metadata`.

    Raises:
        CheckpointCorrupt: a file is missing, cut or damaged, or pieces of a tensor are missing or overlap.
        CheckpointError: it leads out of the directory, is compressed, or asks for more than the limits allow.
    """
    metadata = read_dcp_metadata(os.path.join(folder, METADATA), limits)  # noqa: PTH118  # see sniff
    directory = _Directory(folder, limits)
    for name, tensor in metadata.tensors.items():
        for _, place in tensor.chunks:
            directory.check(place, name)
    found: dict[str, Any] = {name: directory.describe(name, t) for name, t in metadata.tensors.items()}
    found |= {name: directory.value(name, place) for name, place in metadata.objects.items()}
    in_order = {name: found.pop(name) for name in metadata.paths}  # what was saved, before it was cut for the ranks
    return _nested(in_order | found, metadata, folder)


class _Directory:
    """The files of one directory, and how large each is."""

    def __init__(self, folder: str, limits: Limits) -> None:
        self.folder, self.limits = folder, limits
        self.sizes: dict[str, int] = {}
        self.values: dict[Place, Any] = {}
        self.last: ByteFile | None = None

    def check(self, place: Place, name: str) -> None:
        """Raises CheckpointCorrupt when the place is not in the directory."""
        if place.file not in self.sizes:
            path = self.path(place.file)
            if not os.path.isfile(path):  # noqa: PTH113
                raise CheckpointCorrupt(
                    f"Reading {self.folder}: its file {place.file}, which holds {name[:200]!r}, is missing; expected "
                    "the files of every rank. Fetch it into the same folder."
                )
            self.sizes[place.file] = os.path.getsize(path)  # noqa: PTH202
        if place.start + place.num_bytes > self.sizes[place.file]:
            raise CheckpointCorrupt(
                f"Reading {self.folder}: {name[:200]!r} ends at byte {place.start + place.num_bytes:,} of "
                f"{place.file}, which has {self.sizes[place.file]:,}. The file was cut; fetch it again."
            )

    def path(self, file: str) -> str:
        """Returns the path of one file."""
        return os.path.join(self.folder, file)  # noqa: PTH118

    def value(self, name: str, place: Place) -> Any:
        """Returns a value that is no tensor; tensors within it are lazy."""
        self.check(place, name)
        if place not in self.values:
            path = self.path(place.file)
            if self.last is None or self.last.where != path:
                self.last = ByteFile(path)
            memory = min(self.limits.memory, _OBJECT_MEMORY + _OBJECT_RATIO * place.num_bytes)
            piece = FileSlice(self.last, place.start, place.num_bytes, f" ({name[:200]})")
            self.values[place] = read_torch_zip(piece, self.limits._replace(memory=memory)).tree
        return self.values[place]

    def describe(self, name: str, tensor: ChunkedTensor) -> LazyTensor:
        """Returns a tensor whose pieces are fetched when it is asked for."""
        num_values = math.prod(tensor.shape)
        data = StoredBytes(self.folder, name, num_values * ITEM_BYTES[tensor.dtype])
        data.fetch = self._fetch(name, tensor)
        return LazyTensor(
            Storage(data, tensor.dtype, num_values), tensor.dtype, 0, tensor.shape, row_major(tensor.shape)
        )

    def _fetch(self, name: str, tensor: ChunkedTensor) -> Callable[[], Buffer]:
        def assemble() -> Buffer:
            if len(tensor.chunks) == 1:  # it is the whole, and need not be copied when it lies as it should
                piece = self.piece(name, tensor, *tensor.chunks[0])
                data = piece.storage.data
                as_it_is = (piece.offset, piece.storage.start, data.swap_bytes) == (0, 0, 1)
                if as_it_is and data.num_bytes == piece.num_bytes and piece.strides == row_major(tensor.shape):
                    assert data.fetch is not None  # what is read from an archive has bytes
                    return data.fetch()
            return side_by_side(
                tensor.dtype, tensor.shape, [(b, self.piece(name, tensor, b, p)) for b, p in tensor.chunks]
            )

        return assemble

    def piece(self, name: str, tensor: ChunkedTensor, box: Box, place: Place) -> LazyTensor:
        """Returns one piece of a tensor as its own archive describes it."""
        file = FileSlice(ByteFile(self.path(place.file)), place.start, place.num_bytes, f" ({name[:200]})")
        found = read_torch_zip(file, self.limits).tree
        if not isinstance(found, LazyTensor) or (found.dtype, found.shape) != (tensor.dtype, box.sizes):
            raise CheckpointCorrupt(
                f"Reading {file.where}: at byte {place.start:,} lies {found!r:.200}; expected the piece "
                f"<{tensor.dtype} {list(box.sizes)}> that {METADATA} speaks of. Files and {METADATA} are not of one "
                "save; fetch all of them again."
            )
        return found


class _Node(dict[Any, Any]):
    """A container of the tree that was saved. A value may be a dict, too: that one is taken as it is."""


def _nested(found: dict[str, Any], metadata: DcpMetadata, folder: str) -> dict[str, Any]:
    """Returns the values as the tree that was saved: dicts by key, lists by position; optimizers as torch has them."""
    tree = _Node()
    for name, value in found.items():
        path = metadata.paths.get(name, (name,))
        *above, last = path
        node = tree
        for step in above:
            node = node.setdefault(step, _Node())
            if type(node) is not _Node:
                raise _two_in_one(folder, name, path)
        if last in node:
            raise _two_in_one(folder, name, path)
        node[last] = value
    made = _restored(tree)
    return made if isinstance(made, dict) else {}


def _two_in_one(folder: str, name: str, path: tuple[str | int, ...]) -> CheckpointCorrupt:
    return CheckpointCorrupt(
        f"Reading {folder}: {name[:200]!r} has the place {path!r:.200} in the tree, where another "
        "value is. It is damaged; take another copy of it."
    )


def _restored(node: Any) -> Any:
    """Returns a node with its lists as lists, and optimizers in torch's form."""
    if type(node) is not _Node:
        return node
    made = {key: _restored(value) for key, value in node.items()}
    if made and all(type(key) is int for key in made) and sorted(made) == list(range(len(made))):
        return [made[position] for position in range(len(made))]
    return as_optimizer(made)
