from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from holdfast.errors import CheckpointCorrupt, CheckpointError
from holdfast.formats.byte_file import ByteFile
from holdfast.formats.limits import Limits
from holdfast.formats.zip_archive import ZipArchive


@pytest.fixture
def packed(tmp_path: Path) -> Callable[..., Path]:
    """Writes a zip archive of the given entries."""

    def write(method: int = zipfile.ZIP_STORED, **entries: bytes) -> Path:
        path = tmp_path / "a.zip"
        with zipfile.ZipFile(path, "w", method) as archive:
            for name, data in entries.items():
                archive.writestr(name, data)
        return path

    return write


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_entries_are_read_stored_or_deflated(packed: Callable[..., Path], method: int) -> None:
    """Names, sizes and bytes are those that were written."""
    archive = ZipArchive(ByteFile(packed(method, a=b"x" * 1000, b=b"")))
    assert {name: entry.num_bytes for name, entry in archive.entries.items()} == {"a": 1000, "b": 0}
    assert (archive.read("a", 1000), archive.read("b", 0)) == (b"x" * 1000, b"")
    assert archive.head("a", 3) == b"xxx"


def test_64_bit_archives_are_read(tmp_path: Path) -> None:
    """Sizes in the extra field and a 64-bit table of contents are understood."""
    path = tmp_path / "z.zip"
    with zipfile.ZipFile(path, "w") as archive, archive.open("a", "w", force_zip64=True) as entry:
        entry.write(b"abc")
    assert ZipArchive(ByteFile(path)).read("a", 3) == b"abc"
    data = bytearray(path.read_bytes())
    end = data.rfind(b"PK\5\6")
    here, count, size, start = struct.unpack_from("<2H2L", data, end + 8)
    record = b"PK\6\6" + struct.pack("<Q2H2L4Q", 44, 45, 45, 0, 0, here, count, size, start)
    locator = b"PK\6\7" + struct.pack("<LQL", 0, end, 1)
    struct.pack_into("<2H2L", data, end + 8, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF)
    path.write_bytes(data[:end] + record + locator + data[end:])
    assert ZipArchive(ByteFile(path)).read("a", 3) == b"abc"


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/x", "a\\b", "C:x"])
def test_names_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    """An archive with such an entry is not opened at all."""
    path = tmp_path / "t.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(zipfile.ZipInfo(name), b"x")
    with pytest.raises(CheckpointError, match="leads out of the archive"):
        ZipArchive(ByteFile(path))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_entries_of_one_name_are_refused(tmp_path: Path) -> None:
    """Two readers could take different ones."""
    path = tmp_path / "d.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", b"1")
        archive.writestr("a", b"2")
    with pytest.raises(CheckpointCorrupt, match="two entries called 'a'"):
        ZipArchive(ByteFile(path))


def _patched(path: Path, mark: bytes, offset: int, form: str, *values: int | bytes) -> Path:
    data = bytearray(path.read_bytes())
    struct.pack_into(form, data, data.rfind(mark) + offset, *values)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("mark", "offset", "form", "value", "message"),
    [
        (b"PK\1\2", 42, "<L", 0, "two entries in one place"),
        (b"PK\1\2", 42, "<L", 5, "an entry 'a' that reaches into what follows it"),
        (b"PK\3\4", 0, "<L", 5, "no header of 'bb' at byte 36"),
        (b"PK\1\2", 20, "<2L", (900, 900), "an entry 'bb' that reaches into what follows it"),
        (b"PK\1\2", 24, "<L", 900, "an entry 'bb' whose sizes contradict each other"),
        (b"PK\1\2", 8, "<H", 1, "encrypted or packed by method 0"),
        (b"PK\1\2", 10, "<H", 12, "encrypted or packed by method 12"),
        (b"PK\1\2", 16, "<L", 1, "an entry 'bb' that does not match its checksum"),
        (b"PK\5\6", 10, "<H", 7, "parts on other disks"),
        (b"PK\5\6", 8, "<2H", (7, 7), "a table of 7 entries"),
        (b"PK\5\6", 16, "<L", 9999, "a table of 2 entries in 95 bytes at byte 9,999, which cannot be"),
        (b"PK\5\6", 20, "<H", 5, "no table of contents at its end"),
    ],
)
def test_tables_that_contradict_the_file_are_refused(
    packed: Callable[..., Path], mark: bytes, offset: int, form: str, value: object, message: str
) -> None:
    """Places, sizes, methods and checksums that cannot be right are named."""
    values = value if isinstance(value, tuple) else (value,)
    path = _patched(packed(a=b"first", bb=b"second"), mark, offset, form, *values)
    with pytest.raises(CheckpointError, match=message):
        ZipArchive(ByteFile(path)).read("bb", 1000)


def test_entries_that_overlap_are_refused(packed: Callable[..., Path]) -> None:
    """Two entries over the same bytes make a small file large."""
    path = packed(a=b"first" + b"PK\3\4" + b"\0" * 22 + b"\2\0\0\0bbsecond", bb=b"second")
    inner = path.read_bytes().find(b"PK\3\4", 1)
    with pytest.raises(CheckpointCorrupt, match="an entry 'a' that reaches into what follows it"):
        ZipArchive(ByteFile(_patched(path, b"PK\1\2", 42, "<L", inner))).buffer("bb")


def test_what_swells_beyond_belief_is_not_decompressed(packed: Callable[..., Path]) -> None:
    """A megabyte of zeros from a kilobyte is stopped at the limit, and read with a wider one."""
    path = packed(zipfile.ZIP_DEFLATED, a=b"\0" * 1_000_000)
    with pytest.raises(CheckpointError, match="more than 100,000 bytes come out of"):
        ZipArchive(ByteFile(path), Limits(inflated_bytes=100_000, inflated_ratio=10)).read("a", 1_000_000)
    with pytest.raises(CheckpointError, match="its entry 'a' is 1,000,000 bytes; the limit is 1,000"):
        ZipArchive(ByteFile(path)).read("a", 1000)
    assert len(ZipArchive(ByteFile(path)).read("a", 1_000_000)) == 1_000_000


def test_a_name_that_was_changed_in_the_table_alone_is_refused(packed: Callable[..., Path]) -> None:
    """Even of an entry that nobody reads: it would vanish, and the rest look whole."""
    path = packed(a=b"first", bb=b"second")
    with pytest.raises(CheckpointCorrupt, match="an entry 'zz' whose own header says 'bb'"):
        ZipArchive(ByteFile(_patched(path, b"PK\1\2", 46, "<2s", b"zz")))


def test_own_headers_of_storages_are_looked_at_before_any_is_read(packed: Callable[..., Path]) -> None:
    """Opening does not go there; reading one storage refuses a name that was changed of another."""
    path = packed(a=b"first", **{"data/17": b"second"})
    archive = ZipArchive(ByteFile(_patched(path, b"PK\1\2", 46, "<7s", b"data/19")))
    assert archive.read("a", 5) == b"first"
    with pytest.raises(CheckpointCorrupt, match="an entry 'data/19' whose own header says 'data/17'"):
        archive.buffer("a")


@pytest.mark.parametrize("length", [1, 200, 226, 227, 1000])
def test_long_names_are_read_whole(tmp_path: Path, length: int) -> None:
    """Also those that reach beyond what is read of an entry's header at once."""
    path = tmp_path / "t.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x" * length, b"data")
    assert ZipArchive(ByteFile(path)).read("x" * length, 4) == b"data"


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_entries_are_proven_without_being_kept_and_read_in_parts(packed: Callable[..., Path], method: int) -> None:
    """Without a target the checksum alone is looked at; what is proven can be had from any byte on."""
    data = bytes(range(256)) * 4000
    path = packed(method, a=data)
    archive = ZipArchive(ByteFile(path))
    archive.read_into("a", None)
    part = bytearray(70_000)
    archive.read_into("a", memoryview(part), 123_456, proven=True)
    assert part == data[123_456:193_456]
    spoilt = _patched(path, b"PK\1\2", 16, "<L", 1)
    with pytest.raises(CheckpointCorrupt, match="an entry 'a' that does not match its checksum"):
        ZipArchive(ByteFile(spoilt)).read_into("a", None)
