"""The opcodes of a pickle that write down one plain value: numbers, text, bytes, empty containers.

Each is a function from the stream to the value. Source: the opcodes' descriptions in Python's `pickletools`.
"""

from __future__ import annotations

import codecs
import struct
from collections.abc import Callable
from mmap import mmap
from typing import Any

from holdfast.formats.inert import Damage

_MAX_LINE = 1 << 16  # of numbers, names and memo keys written as text; those in use have a few dozen
_MAX_INTEGER_BYTES = 1024


class PickleStream:
    """The bytes of a pickle, and how far they have been read.

    Args:
        data: holds the pickle; a file mapped into memory will do.
        at: where it begins.
        end: where it ends at the latest.
    """

    __slots__ = ("at", "data", "end")

    def __init__(self, data: bytes | mmap, at: int = 0, end: int | None = None) -> None:
        self.data = data
        self.at = at
        self.end = len(data) if end is None else end

    def take(self, count: int) -> bytes:
        """Returns the next `count` bytes. Raises Damage when there are not as many."""
        stop = self.at + count
        if count < 0 or stop > self.end:
            raise Damage(f"{count:,} bytes promised where {self.end - self.at:,} are left")
        taken = self.data[self.at : stop]
        self.at = stop
        return taken

    def number(self, size: int, *, signed: bool = False) -> int:
        """Returns the next little-endian integer of `size` bytes."""
        at = self.at
        if at + size > self.end:
            self.take(size)  # raises
        self.at = at + size
        # Two of five opcodes are followed by one byte: what is kept for a second use, and where it is taken from.
        return (
            self.data[at]
            if size == 1 and not signed
            else int.from_bytes(self.data[at : at + size], "little", signed=signed)
        )

    def line(self, limit: int = _MAX_LINE) -> bytes:
        """Returns the bytes up to the next line feed, which is passed over."""
        end = self.data.find(b"\n", self.at, min(self.end, self.at + limit + 1))
        if end < 0:
            raise Damage(f"no end of the line within {limit:,} bytes")
        found = self.data[self.at : end]
        self.at = end + 1
        return found


def text_number(line: bytes) -> int:
    """Returns an integer written as decimal digits. Raises Damage for anything else."""
    try:
        return int(line)
    except ValueError as error:
        raise Damage(f"{line[:40]!r} as a number") from error


def text(raw: bytes) -> str:
    """Returns UTF-8 as text, lone surrogates included. Raises Damage when it is none."""
    try:
        return raw.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        raise Damage(f"text that is not UTF-8 ({error.reason})") from error


def _text_or_bytes(raw: bytes) -> str | bytes:
    """Returns what Python 2 called a string: text where it can be, bytes where it cannot."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw


def _int_line(stream: PickleStream) -> int | bool:
    line = stream.line()
    return line == b"01" if line in (b"00", b"01") else text_number(line)


def _long(stream: PickleStream, size: int) -> int:
    length = stream.number(size, signed=size == 4)
    if length > _MAX_INTEGER_BYTES:
        raise Damage(f"an integer of {length:,} bytes")
    return stream.number(length, signed=True)


def _float_line(stream: PickleStream) -> float:
    line = stream.line()
    try:
        return float(line)
    except ValueError as error:
        raise Damage(f"{line[:40]!r} as a number") from error


def _quoted(stream: PickleStream) -> str | bytes:
    line = stream.line(1 << 30).strip()
    if len(line) < 2 or line[0] != line[-1] or line[:1] not in (b"'", b'"'):
        raise Damage("a string without its quotes")
    try:
        return _text_or_bytes(codecs.escape_decode(line[1:-1])[0])
    except ValueError as error:
        raise Damage(f"a string with a broken escape ({error})") from error


def _escaped(stream: PickleStream) -> str:
    try:
        return stream.line(1 << 30).decode("raw-unicode-escape")
    except UnicodeDecodeError as error:
        raise Damage(f"text with a broken escape ({error.reason})") from error


Literal = Callable[[PickleStream], Any]

# Opcode → its name in pickletools, and how its value is read.
LITERALS: dict[int, tuple[str, Literal]] = {
    ord(code): (name, read)
    for code, name, read in (
        ("N", "NONE", lambda _: None),
        ("\x88", "NEWTRUE", lambda _: True),
        ("\x89", "NEWFALSE", lambda _: False),
        ("I", "INT", _int_line),
        ("L", "LONG", lambda s: text_number(s.line().removesuffix(b"L"))),
        ("J", "BININT", lambda s: s.number(4, signed=True)),
        ("K", "BININT1", lambda s: s.number(1)),
        ("M", "BININT2", lambda s: s.number(2)),
        ("\x8a", "LONG1", lambda s: _long(s, 1)),
        ("\x8b", "LONG4", lambda s: _long(s, 4)),
        ("F", "FLOAT", _float_line),
        ("G", "BINFLOAT", lambda s: struct.unpack(">d", s.take(8))[0]),
    )
}

# The same for values whose size the file chooses.
TEXTS: dict[int, tuple[str, Literal]] = {
    ord(code): (name, read)
    for code, name, read in (
        ("S", "STRING", _quoted),
        ("V", "UNICODE", _escaped),
        ("T", "BINSTRING", lambda s: _text_or_bytes(s.take(s.number(4, signed=True)))),
        ("U", "SHORT_BINSTRING", lambda s: _text_or_bytes(s.take(s.number(1)))),
        ("X", "BINUNICODE", lambda s: text(s.take(s.number(4)))),
        ("\x8c", "SHORT_BINUNICODE", lambda s: text(s.take(s.number(1)))),
        ("\x8d", "BINUNICODE8", lambda s: text(s.take(s.number(8)))),
        ("B", "BINBYTES", lambda s: s.take(s.number(4))),
        ("C", "SHORT_BINBYTES", lambda s: s.take(s.number(1))),
        ("\x8e", "BINBYTES8", lambda s: s.take(s.number(8))),
        ("\x96", "BYTEARRAY8", lambda s: bytearray(s.take(s.number(8)))),
    )
}
