"""What `torch.save` wrote, unpacked into a folder: some systems and file managers unpack every zip archive they see.

The files are the archive's entries; their checksums went with the archive, so only sizes prove anything here.
"""

from __future__ import annotations

import os
from typing import Any

from holdfast.errors import CheckpointError
from holdfast.formats.byte_file import Buffer, ByteFile, MemoryFile
from holdfast.formats.limits import Limits
from holdfast.formats.torch_zip import read_torch_zip
from holdfast.formats.zip_archive import STORED, Entry, ZipArchive

_MAX_FILES = 1_000_000


def read_unpacked(path: str, limits: Limits) -> Any:
    """Returns the tree of an unpacked torch archive; tensors stay in their files. Raises as `read_torch_zip`."""
    archive = _Unpacked(path, limits)
    return read_torch_zip(archive.file, limits, archive).tree


class _Unpacked(ZipArchive):
    """The files of a folder as the entries of an archive, their names those that the folder itself lists."""

    def __init__(self, path: str, limits: Limits) -> None:
        self.file = MemoryFile(path, b"")
        self.limits = limits
        self.entries = {}
        for inner in ("", "data/", ".data/"):
            if os.path.isdir(f"{path}/{inner}"):  # noqa: PTH112  # see sniff
                with os.scandir(f"{path}/{inner}") as found:
                    files = [(item.name, item.stat().st_size) for item in found if item.is_file()]
                for name, size in files:
                    self.entries[inner + name] = Entry(inner + name, STORED, 0, size, size, 0)
        if len(self.entries) > _MAX_FILES:
            raise CheckpointError(f"Reading {path}: it holds {len(self.entries):,} files. Is it the right folder?")

    def read(self, name: str, limit: int) -> bytes:
        """Returns the bytes of one file. Raises CheckpointError when there are more than the limit."""
        there = self._entry(name).num_bytes
        if there > limit:
            raise CheckpointError(f"Reading {self._place(name)}: it is {there:,} bytes; the limit is {limit:,}.")
        return ByteFile(self._place(name)).read(0, there)

    def buffer(self, name: str) -> Buffer:
        """Returns the bytes of one file as memory of one's own."""
        return ByteFile(self._place(name)).buffer(0, self._entry(name).num_bytes)

    def read_into(self, name: str, target: memoryview | None, start: int = 0, *, proven: bool = False) -> None:
        """Fills memory with the bytes of one file from `start`; without memory, sees that they can be read."""
        file = ByteFile(self._place(name))
        if target is not None:
            file.read_into(start, target)
        elif not proven:
            file.look_through(0, self._entry(name).num_bytes)

    def _place(self, name: str) -> str:
        return f"{self.file.where}/{self._entry(name).name}"
