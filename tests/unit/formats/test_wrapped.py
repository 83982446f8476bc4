from __future__ import annotations

import bz2
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from holdfast import open_checkpoint
from holdfast.errors import CheckpointCorrupt, CheckpointError
from holdfast.formats import Limits

STATE = {"fc.weight": torch.arange(6.0).reshape(2, 3)}


def _saved() -> bytes:
    buffer = io.BytesIO()
    torch.save(STATE, buffer)
    return buffer.getvalue()


def _tar(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def _zip(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "torch zip in bzip2": bz2.compress,
    "torch zip in xz": lzma.compress,
    "torch zip in lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "torch zip in zlib": zlib.compress,
    "torch zip in tar archive": lambda data: _tar(readme=b"# x", model=data),
    "torch zip in zip archive": lambda data: _zip(readme=b"# x", model=data),
    "torch zip in tar archive in xz": lambda data: lzma.compress(_tar(model=data)),
    "torch zip in zip archive in tar archive": lambda data: _tar(model=_zip(model=data)),
}


@pytest.mark.row("S1")
@pytest.mark.parametrize("kind", PACKED)
def test_the_one_checkpoint_in_it_is_opened(kind: str, tmp_path: Path) -> None:
    """Its kind says how it was packed; its values are those that were saved."""
    (tmp_path / "m.bin").write_bytes(PACKED[kind](_saved()))
    opened = open_checkpoint(tmp_path / "m.bin")
    assert (opened.kind, opened.path) == (kind, str(tmp_path / "m.bin"))
    assert torch.equal(opened.weights()["fc.weight"], STATE["fc.weight"])


def test_optimizers_beside_it_are_no_second_checkpoint(tmp_path: Path) -> None:
    """Names that programs always give to what is not weights are passed over."""
    data = {"pytorch_model.bin": _saved(), "optimizer.pt": _saved(), "._pytorch_model.bin": _saved()}
    (tmp_path / "m.tar").write_bytes(_tar(**data))
    assert torch.equal(open_checkpoint(tmp_path / "m.tar").weights()["fc.weight"], STATE["fc.weight"])


@pytest.mark.parametrize("pack", [_tar, _zip])
def test_several_checkpoints_in_it_are_named(pack: Callable[..., bytes], tmp_path: Path) -> None:
    """None is chosen."""
    (tmp_path / "m.bin").write_bytes(pack(a=_saved(), b=_saved()))
    with pytest.raises(CheckpointError, match=r"with 2 files that begin like checkpoints; .*\n  a\n  b\nUnpack it"):
        open_checkpoint(tmp_path / "m.bin")


@pytest.mark.parametrize("pack", [_tar, _zip])
def test_an_archive_without_one_says_what_is_in_it(pack: Callable[..., bytes], tmp_path: Path) -> None:
    """The first names are told."""
    (tmp_path / "m.bin").write_bytes(pack(**{"train.py": b"print(1)"}))
    with pytest.raises(CheckpointError, match=r"None is among its files \(it holds train.py\)"):
        open_checkpoint(tmp_path / "m.bin")


def test_what_is_packed_four_times_is_not_unpacked(tmp_path: Path) -> None:
    """Nobody sends a checkpoint so."""
    data = _saved()
    for _ in range(4):
        data = bz2.compress(data)
    (tmp_path / "m.bin").write_bytes(data)
    with pytest.raises(CheckpointError, match=r"it is a bzip2 in bzip2 in bzip2 in bzip2; expected a checkpoint"):
        open_checkpoint(tmp_path / "m.bin")


@pytest.mark.parametrize("kind", ["torch zip in bzip2", "torch zip in xz", "torch zip in lzma", "torch zip in zlib"])
def test_what_was_cut_or_changed_is_damaged(kind: str, tmp_path: Path) -> None:
    """It is told for what it is, and nothing half is opened."""
    data = PACKED[kind](_saved())
    (tmp_path / "m.bin").write_bytes(data[: len(data) // 2])
    with pytest.raises(CheckpointCorrupt, match="It was cut"):
        open_checkpoint(tmp_path / "m.bin")
    middle = len(data) // 2
    (tmp_path / "m.bin").write_bytes(
        data[:middle] + bytes(b ^ 0xFF for b in data[middle : middle + 9]) + data[middle + 9 :]
    )
    with pytest.raises(CheckpointError):
        open_checkpoint(tmp_path / "m.bin").weights()


@pytest.mark.parametrize("pack", [bz2.compress, lzma.compress, zlib.compress])
def test_more_than_the_limit_does_not_come_out(pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    """A few bytes that become very many are refused as soon as they do."""
    (tmp_path / "m.bin").write_bytes(pack(bytes(8 << 20)))
    with pytest.raises(CheckpointError, match=r"more than 1,048,576 bytes come out of"):
        open_checkpoint(tmp_path / "m.bin", limits=Limits(inflated_bytes=1 << 20, inflated_ratio=1))
