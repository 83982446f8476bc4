"""Checkpoints within compressed files and archives: `.gz`, `.bz2`, `.xz`, a `.tar.gz` or a `.zip` with one in it.

Nothing is unpacked onto a disk. What is compressed comes out in memory, as much as the limits allow; what lies in an
archive as it is stays where it is.
"""

from __future__ import annotations

import bz2
import lzma
from collections.abc import Callable, Iterator
from typing import Any

from holdfast.errors import CheckpointCorrupt, CheckpointError, first_of
from holdfast.formats.byte_file import Bytes, FileSlice, MemoryFile, inflate
from holdfast.formats.folder import is_state
from holdfast.formats.limits import Limits
from holdfast.formats.readers import has_reader, no_weights
from holdfast.formats.sniff import Sniffed, a, sniff_bytes
from holdfast.formats.torch_tar import tar_members
from holdfast.formats.zip_archive import ZipArchive

_MAX_LEVELS = 3  # a checkpoint in a tar in a gzip, and one to spare
_MAX_MEMBERS = 2000  # of an archive, that are looked at
_HEAD = 4096
_PIECE = 1 << 20
_MAX_DICTIONARY = 512 << 20  # bytes that xz may ask for; its strongest setting takes 64 MiB


def unwrapped(file: Bytes, kind: str, limits: Limits) -> tuple[Bytes, str, str]:
    """Returns the file that lies within a compressed file or an archive, what it is, and all of that in words.

    Args:
        kind: what `sniff` says the outer one is.

    Raises:
        CheckpointCorrupt: it is damaged or was cut.
        CheckpointError: there is no checkpoint in it, or several, or more comes out of it than the limits allow.
    """
    shown, where = kind, file.where
    for _ in range(_MAX_LEVELS):
        if kind not in WRAPPINGS:
            break
        file, found = WRAPPINGS[kind](file, limits)
        kind, shown = found.kind, f"{found.kind} in {shown}"
        if found.advice is not None:
            raise no_weights(where, found._replace(kind=shown))
    if not has_reader(kind):
        raise no_weights(where, Sniffed(shown, "Unpack it and open the checkpoint that is in it."))
    return file, kind, shown


def _gunzipped(file: Bytes, limits: Limits) -> tuple[Bytes, Sniffed]:
    data = inflate(file, 0, file.num_bytes, limits.may_inflate_to(file.num_bytes), gzip=True)
    return _in_memory(file, bytes(data), limits)


def _decompressed(start: Callable[[], Any]) -> Callable[[Bytes, Limits], tuple[Bytes, Sniffed]]:
    """Returns a reader for a compression, of which `start` gives a machine with `decompress(data, max_length)`."""

    def read(file: Bytes, limits: Limits) -> tuple[Bytes, Sniffed]:
        limit, made, at, machine = limits.may_inflate_to(file.num_bytes), bytearray(), 0, start()
        while not machine.eof:
            packed = b""
            if machine.needs_input:
                packed = file.read(at, _PIECE)
                at += len(packed)
                if not packed:
                    raise CheckpointCorrupt(
                        f"Decompressing {file.where}: found no end of its {file.num_bytes:,} bytes. It was cut; take "
                        "another copy of it."
                    )
            try:
                made += machine.decompress(packed, _PIECE)
            except (OSError, lzma.LZMAError, EOFError, ValueError) as error:
                raise CheckpointCorrupt(
                    f"Decompressing {file.where}: found {error}. It is damaged; take another copy of it."
                ) from error
            except MemoryError as error:
                raise CheckpointError(
                    f"Decompressing {file.where}: it asks for too much memory. Decompress it yourself and open what "
                    "comes out."
                ) from error
            if len(made) > limit:
                raise CheckpointError(
                    f"Decompressing {file.where}: more than {limit:,} bytes come out of {file.num_bytes:,}; no weights "
                    "shrink like that. If you trust it, decompress it yourself and open what comes out."
                )
        return _in_memory(file, bytes(made), limits)

    return read


class _Zlib:
    """A zlib stream with the interface of the machines in `bz2` and `lzma`."""

    def __init__(self) -> None:
        import zlib

        self._machine, self._error, self._rest = zlib.decompressobj(), zlib.error, b""

    @property
    def eof(self) -> bool:
        """Whether its end was reached."""
        return self._machine.eof

    @property
    def needs_input(self) -> bool:
        """Whether nothing is left of what it was given."""
        return not self._rest

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """Returns what comes out. Raises OSError when it is damaged."""
        try:
            made = self._machine.decompress(self._rest + data, max_length)
        except self._error as error:
            raise OSError(str(error)) from error
        self._rest = self._machine.unconsumed_tail
        return made


def _lzma() -> Any:
    return lzma.LZMADecompressor(memlimit=_MAX_DICTIONARY)


def _in_memory(file: Bytes, data: bytes, limits: Limits) -> tuple[Bytes, Sniffed]:
    inner = MemoryFile(file.where, data)
    return inner, sniff_bytes(inner, limits)


def _of_tar(file: Bytes, limits: Limits) -> tuple[Bytes, Sniffed]:
    places = tar_members(file)
    heads = ((name, file.read(start, min(_HEAD, size))) for name, (start, size) in places.items())
    name = _the_one(file, "tar archive", heads)
    inner = FileSlice(file, *places[name], f" ({name[:200]})")
    return inner, sniff_bytes(inner, limits)


def _of_zip(file: Bytes, limits: Limits) -> tuple[Bytes, Sniffed]:
    archive = ZipArchive(file, limits)
    heads = ((name, archive.head(name, _HEAD)) for name in archive.entries if not name.endswith("/"))
    inner = archive.open(_the_one(file, "zip archive", heads))
    return inner, sniff_bytes(inner, limits)


def _the_one(file: Bytes, kind: str, heads: Iterator[tuple[str, bytes]]) -> str:
    """Returns the name of the one member that begins like a checkpoint. Raises CheckpointError."""
    found: list[str] = []
    others: list[str] = []
    for number, (name, head) in enumerate(heads):
        if number >= _MAX_MEMBERS:
            break
        last = name.rpartition("/")[2]
        if not head or last.startswith("._") or is_state(last):
            continue
        inner = sniff_bytes(MemoryFile(file.where, head)).kind
        (found if has_reader(inner) or inner in WRAPPINGS else others).append(name)
    if len(found) == 1:
        return found[0]
    if found:
        raise CheckpointError(
            f"Opening {file.where}: it is {a(kind)} with {len(found)} files that begin like checkpoints; expected "
            f"one:\n{first_of(found)}\nUnpack it and open the one you mean, or the folder."
        )
    held = f"it holds {', '.join(others[:3])}{' …' if len(others) > 3 else ''}" if others else "nothing is in it"
    raise CheckpointError(
        f"Opening {file.where}: it is {a(kind)}; expected a checkpoint. None is among its files ({held}). Unpack it "
        "and open the checkpoint that is in it, if there is one."
    )


WRAPPINGS: dict[str, Callable[[Bytes, Limits], tuple[Bytes, Sniffed]]] = {
    "gzip": _gunzipped,
    "zlib": _decompressed(_Zlib),
    "bzip2": _decompressed(bz2.BZ2Decompressor),
    "xz": _decompressed(_lzma),
    "lzma": _decompressed(_lzma),
    "tar archive": _of_tar,
    "zip archive": _of_zip,
}
