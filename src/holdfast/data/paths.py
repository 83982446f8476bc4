"""A million paths in three arrays: no Python object is kept for a path.

A Python list of a million texts takes 100 bytes each and more, and every worker process that reads one of them counts a
reference to it, so that page by page the worker gets a copy of its own: memory grows over the epoch. Here a path is a
folder's number and the bytes of a name. Reading one touches nothing but what is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import torch

Offsets = npt.NDArray[np.signedinteger[Any]]


class PathTable(Sequence[str]):
    """A sequence of paths with `/`, read-only; equal to any sequence of the same texts.

    Under the start methods "spawn" and "forkserver" worker processes share its memory: the arrays are torch tensors,
    which torch sends as a handle.

    Args:
        names: `[*]` uint8, UTF-8: the last parts of the paths, one after the other.
        lengths: `[n]`, whole numbers of any kind: bytes of each name.
        folder_of: `[n]`: which of `folders` each name is in.
        folders: their paths with a `/` at the end, or "".
    """

    def __init__(
        self,
        names: npt.NDArray[np.uint8],
        lengths: npt.NDArray[np.integer[Any]],
        folder_of: npt.NDArray[np.integer[Any]],
        folders: Sequence[str],
    ) -> None:
        prefixes = [folder.encode() for folder in folders]
        self._names = torch.from_numpy(names)
        self._offsets = torch.from_numpy(_offsets(lengths, len(names)))
        self._folder_of = torch.from_numpy(folder_of.astype(np.int32, copy=False))
        joined = bytearray(b"".join(prefixes) + b"\0")
        self._prefixes = torch.frombuffer(joined, dtype=torch.uint8)
        prefix_lengths = np.fromiter(map(len, prefixes), np.int64, len(prefixes))
        self._prefix_offsets = torch.from_numpy(_offsets(prefix_lengths, len(joined)))

    @classmethod
    def of(cls, paths: Iterable[str]) -> PathTable:
        """Returns a table of `paths`; one that is a table already is returned as it is."""
        if isinstance(paths, PathTable):
            return paths
        folders: dict[str, int] = {}
        folder_of, names = [], []
        for path in paths:
            folder, slash, name = path.rpartition("/")
            folder_of.append(folders.setdefault(folder + slash, len(folders)))
            names.append(name.encode())
        return cls(
            np.frombuffer(bytearray(b"".join(names)), np.uint8),
            np.fromiter(map(len, names), np.int64, len(names)),
            np.array(folder_of, np.int32),
            list(folders),
        )

    @property
    def num_bytes(self) -> int:
        """What the arrays take in memory, bytes."""
        return sum(t.nbytes for t in vars(self).values())

    def __len__(self) -> int:
        return len(self._folder_of)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return list(self._texts(range(len(self))[index]))
        return next(self._texts([range(len(self))[index]]))

    def __iter__(self) -> Iterator[str]:
        return self._texts(range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # as lists have none

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, self[:3]))
        return f"PathTable([{shown}{', …' if len(self) > 3 else ''}], {len(self)} paths)"

    def _texts(self, indices: Iterable[int]) -> Iterator[str]:
        # Views of the tensors are made anew: kept ones would not follow when torch moves them to shared memory.
        names, offsets, folder_of = self._names.numpy(), self._offsets.numpy(), self._folder_of.numpy()
        prefixes, prefix_offsets = self._prefixes.numpy(), self._prefix_offsets.numpy()
        last, prefix = -1, b""
        for index in indices:
            folder = int(folder_of[index])
            if folder != last:
                last, prefix = folder, prefixes[prefix_offsets[folder] : prefix_offsets[folder + 1]].tobytes()
            yield (prefix + names[offsets[index] : offsets[index + 1]].tobytes()).decode()


def _offsets(lengths: npt.NDArray[np.integer[Any]], total: int) -> Offsets:
    """Returns where each name begins and, at last, where the last one ends, in four bytes each where they fit."""
    kind: type[np.signedinteger[Any]] = np.int32 if total < 2**31 else np.int64
    offsets: Offsets = np.zeros(len(lengths) + 1, kind)
    np.cumsum(lengths, dtype=offsets.dtype, out=offsets[1:])
    return offsets
