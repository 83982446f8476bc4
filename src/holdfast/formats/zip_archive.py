"""The table of contents of a zip archive, read strictly: what two readers could take for two things is refused.

Only what torch, NumPy and ordinary zip programs write is accepted: one disk, no encryption, entries that are stored or
deflated, that do not overlap, and whose two headers agree on their names. Nothing is ever extracted to a folder.

Source: the .ZIP File Format Specification (APPNOTE) 4.3 and 4.5.3.
"""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

from holdfast.errors import CheckpointCorrupt, CheckpointError
from holdfast.formats.byte_file import Buffer, Bytes, FileSlice, MemoryFile, inflate
from holdfast.formats.crc32 import Crc32, crc32
from holdfast.formats.limits import LIMITS, Limits

_END, _END64, _LOCATOR64, _ENTRY, _LOCAL = b"PK\5\6", b"PK\6\6", b"PK\6\7", b"PK\1\2", b"PK\3\4"
_END_BYTES, _MAX_COMMENT = 22, 0xFFFF
_NOT_HERE = 0xFFFFFFFF  # the value stands in the extra field, in 64 bits
STORED, DEFLATED = 0, 8
_LOCAL_BYTES, _MOST_NAMES = 30, 226  # bytes; with the header before it, what is read at once


class Entry(NamedTuple):
    """One file of an archive: its name, how it is packed, its checksum, its sizes, and where its header begins."""

    name: str
    method: int
    crc: int
    packed_bytes: int
    num_bytes: int
    header: int


class ZipArchive:
    """A zip archive, opened for reading.

    Args:
        file: its bytes.
        limits: what reading may cost.

    Attributes:
        entries: name → entry, in the order of the table.

    Raises:
        CheckpointCorrupt: it was cut, or its table contradicts itself or the file.
        CheckpointError: it is of a kind that no checkpoint is.
    """

    def __init__(self, file: Bytes, limits: Limits = LIMITS) -> None:
        self.file = file
        self.limits = limits
        self.entries: dict[str, Entry] = {}
        self._data_starts: dict[str, int] = {}
        self._ends: dict[int, int] = {}  # where an entry's header begins → where its data must have ended
        self._inflated: tuple[str, Buffer] = ("", Buffer(bytearray(), 0, 0))
        try:
            start, size, count = self._find_table()
            self._read_table(start, size, count)
            self._check_names()
        except struct.error as error:
            raise self._corrupt(f"a table of contents that is cut ({error})") from error

    def read(self, name: str, limit: int) -> bytes:
        """Returns the bytes of one entry, proven by their checksum. Raises as `buffer` does."""
        entry = self._entry(name)
        if entry.num_bytes > limit:
            raise CheckpointError(
                f"Reading {self.file.where}: its entry {name!r} is {entry.num_bytes:,} bytes; the limit is {limit:,}. "
                "If you trust it, open it with wider limits (holdfast.formats.Limits)."
            )
        return bytes(self._buffer(entry).view())

    def head(self, name: str, count: int) -> bytes:
        """Returns the first bytes of one entry, `count` at most, not proven. Raises as `buffer` does."""
        entry = self._entry(name)
        start = self._data_start(entry)
        if entry.method == STORED:
            return self.file.read(start, min(count, entry.num_bytes))
        packed = self.file.read(start, min(2 * count, entry.packed_bytes))
        try:
            return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, count)
        except zlib.error as error:
            raise self._corrupt(f"an entry {name!r} that cannot be decompressed ({error})") from error

    def buffer(self, name: str) -> Buffer:
        """Returns the bytes of one entry as memory of one's own, mapped where it can be, proven by their checksum.

        Raises:
            CheckpointCorrupt: they are not there, or do not match the checksum.
            CheckpointError: they are compressed beyond belief.
        """
        entry = self._entry(name)
        self._check_places()
        return self._buffer(entry)

    def _buffer(self, entry: Entry) -> Buffer:
        name, start = entry.name, self._data_start(entry)
        if entry.method == STORED:
            made = self.file.buffer(start, entry.num_bytes)
        else:
            limit = min(entry.num_bytes, self.limits.may_inflate_to(entry.packed_bytes))
            data = inflate(self.file, start, entry.packed_bytes, limit, gzip=False, place=f" ({name})")
            if len(data) != entry.num_bytes:
                raise self._corrupt(f"{len(data):,} bytes in {name!r}, whose entry says {entry.num_bytes:,}")
            made = Buffer(data, 0, len(data))
        with made.view() as view:  # a checksum of 0 says that there is none: torch can leave them out
            if entry.crc and crc32(view) != entry.crc:
                raise self._corrupt(f"an entry {name!r} that does not match its checksum")
        return made

    def read_into(self, name: str, target: memoryview | None, start: int = 0, *, proven: bool = False) -> None:
        """Copies bytes of one entry into memory that is there, and proves them on the way.

        Args:
            name: of the entry.
            target: is filled with the bytes from `start`; None keeps none, and only proves all of them.
            start: of the first byte in the entry; other than 0 only of what is proven.
            proven: they have been proven before, so they are read and no more.

        Raises as `buffer` does; then what is in `target` is no one's data.
        """
        entry = self._entry(name)
        self._check_places()
        if entry.method != STORED:
            if self._inflated[0] != name:
                self._inflated = name, self.buffer(name)  # kept: what is decompressed is mostly read in many parts
            if target is not None:
                target[:] = self._inflated[1].view()[start : start + len(target)]
            return
        begin, running = self._data_start(entry), Crc32(0 if proven or not entry.crc else entry.num_bytes)
        look = None if proven or not entry.crc else running.update
        if target is None:
            self.file.look_through(begin, entry.num_bytes, look)
        else:
            self.file.read_into(begin + start, target, look)
        if look and running.finish() != entry.crc:
            raise self._corrupt(f"an entry {name!r} that does not match its checksum")

    def open(self, name: str) -> Bytes:
        """Returns one entry as a file of its own: an archive within the archive. Raises as `buffer` does.

        One that is stored is a piece of this file, not proven: whatever lies in it proves itself.
        """
        entry, place = self._entry(name), f" ({name[:200]})"
        self._check_places()
        if entry.method == STORED:
            return FileSlice(self.file, self._data_start(entry), entry.num_bytes, place)
        return MemoryFile(self.file.where + place, bytes(self._buffer(entry).view()))

    def _entry(self, name: str) -> Entry:
        if name not in self.entries:
            raise self._corrupt(f"no entry {name!r}")
        return self.entries[name]

    def _corrupt(self, what: str) -> CheckpointCorrupt:
        return CheckpointCorrupt(
            f"Reading {self.file.where}: it is a zip archive with {what}. It is damaged or was cut; take another copy."
        )

    def _find_table(self) -> tuple[int, int, int]:
        """Returns where the table of contents begins, its size, and the number of its entries."""
        begin = max(0, self.file.num_bytes - _END_BYTES - _MAX_COMMENT)
        tail = self.file.read(begin, self.file.num_bytes - begin)
        at = tail.rfind(_END)
        while at >= 0 and not _is_end(tail, at):
            at = tail.rfind(_END, 0, at)
        if at < 0:
            raise self._corrupt(f"no table of contents at its end ({self.file.num_bytes:,} bytes)")
        disk, table_disk, here, count, size, start = struct.unpack_from("<4H2L", tail, at + 4)
        end = begin + at
        if end >= 20 and self.file.read(end - 20, 4) == _LOCATOR64:
            disk, place, disks = struct.unpack("<LQL", self.file.read(end - 16, 16))
            record = self.file.read(place, 56)
            if disks > 1 or record[:4] != _END64 or place + 56 > end:
                raise self._corrupt("a 64-bit table of contents that is not where it should be")
            disk, table_disk, here, count, size, start = struct.unpack_from("<2L4Q", record, 16)
            end = place
        if disk or table_disk or here != count:
            raise self._corrupt("parts on other disks")
        if start + size > end or count > self.limits.entries or count * 46 > size:
            raise self._corrupt(f"a table of {count:,} entries in {size:,} bytes at byte {start:,}, which cannot be")
        return start, size, count

    def _read_table(self, start: int, size: int, count: int) -> None:
        table, at = self.file.read(start, size), 0
        for _ in range(count):
            mark, flags, method, crc, packed, full = struct.unpack_from("<4s4x2H4x3L", table, at)
            name_size, extra_size, comment_size, disk, header = struct.unpack_from("<4H6xL", table, at + 28)
            raw = table[at + 46 : at + 46 + name_size]
            extra = table[at + 46 + name_size : at + 46 + name_size + extra_size]
            at += 46 + name_size + extra_size + comment_size
            name = self._checked_name(raw, mark, flags, method, at > size)
            sizes = iter(_wide_values(extra))
            full, packed, header = (next(sizes, -1) if v == _NOT_HERE else v for v in (full, packed, header))
            if min(full, packed, header) < 0 or disk not in (0, 0xFFFF) or (method == STORED and full != packed):
                raise self._corrupt(f"an entry {name!r} whose sizes contradict each other")
            if name in self.entries:
                raise self._corrupt(f"two entries called {name!r}")
            self.entries[name] = Entry(name, method, crc, packed, full, header)
        headers = sorted(entry.header for entry in self.entries.values())
        self._ends = dict(zip(headers, [*headers, start][1:], strict=True))
        if len(self._ends) < count:
            raise self._corrupt("two entries in one place")

    def _checked_name(self, raw: bytes, mark: bytes, flags: int, method: int, cut: bool) -> str:
        if mark != _ENTRY or cut:
            raise self._corrupt("a table of contents that ends too early")
        name = raw.decode("utf-8", "replace")
        if flags & 0x2041 or method not in (STORED, DEFLATED):
            raise CheckpointError(
                f"Reading {self.file.where}: its entry {name[:200]!r} is encrypted or packed by method {method}; "
                "checkpoints are stored or deflated. Unpack it with a zip program and pack it again."
            )
        if "\0" in name or "\\" in name or name.startswith("/") or ".." in name.split("/") or name[1:2] == ":":
            raise CheckpointError(
                f"Reading {self.file.where}: its entry {name[:200]!r} leads out of the archive; no checkpoint has such "
                "names. Do not unpack it."
            )
        return name

    def _check_names(self) -> None:
        """Looks at the own header of every entry but storages: `archive/data/17` and the like.

        A name that was changed in the table alone would make an entry vanish, and the archive be taken for one of
        another kind. Of a storage it is noticed by whoever refers to it; and storages lie all over a large file, where
        a look into it should not have to go.
        """
        for entry in self.entries.values():
            if not entry.name.rpartition("/")[2].isdigit():
                self._data_start(entry)

    def _check_places(self) -> None:
        """Looks at every entry's own header, once, before anything large is read: also at those that nobody reads."""
        if len(self._data_starts) < len(self.entries):
            for entry in sorted(self.entries.values(), key=lambda e: e.header):
                self._data_start(entry)

    def _data_start(self, entry: Entry) -> int:
        """Returns where an entry's data begin, by its own header; it agrees with the table, and shares no byte."""
        if entry.name in self._data_starts:
            return self._data_starts[entry.name]
        local = self.file.read(entry.header, _LOCAL_BYTES + _MOST_NAMES)
        if local[:4] != _LOCAL or len(local) < _LOCAL_BYTES:
            raise self._corrupt(f"no header of {entry.name!r} at byte {entry.header:,}")
        method, name_size, extra_size = struct.unpack_from("<H16x2H", local, 8)
        raw = local[_LOCAL_BYTES : _LOCAL_BYTES + name_size]
        if name_size > _MOST_NAMES:
            raw = self.file.read(entry.header + _LOCAL_BYTES, name_size)
        name = raw.decode("utf-8", "replace")
        if name != entry.name or method != entry.method:
            raise self._corrupt(f"an entry {entry.name!r} whose own header says {name[:200]!r}")
        start: int = entry.header + _LOCAL_BYTES + name_size + extra_size
        if start + entry.packed_bytes > self._ends[entry.header]:
            raise self._corrupt(f"an entry {entry.name!r} that reaches into what follows it")
        self._data_starts[entry.name] = start
        return start


def _is_end(tail: bytes, at: int) -> bool:
    """Returns whether an archive ends with the record at `at`: but for a line feed or zeros that a transfer added."""
    end = at + _END_BYTES + int.from_bytes(tail[at + 20 : at + 22], "little")
    return at + _END_BYTES <= len(tail) and end <= len(tail) and not tail[end:].strip(b"\0\r\n")


def _wide_values(extra: bytes) -> list[int]:
    """Returns the 64-bit values of an entry's extra field, in the order in which they replace the 32-bit ones."""
    at = 0
    while at + 4 <= len(extra):
        kind, size = struct.unpack_from("<2H", extra, at)
        if kind == 1:
            field = extra[at + 4 : at + 4 + size]
            return [int.from_bytes(field[i : i + 8], "little") for i in range(0, len(field) - 7, 8)]
        at += 4 + size
    return []
