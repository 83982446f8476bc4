"""A `torch.save` within what people send files in: compressed, in a tar, in a zip."""

# ruff: noqa: D103  # a specimen's name says what it is

from __future__ import annotations

import bz2
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch

from zoo.nets import trained
from zoo.specimen import Collection, Made, Refusal, Truth

COLLECTION = Collection("torch")
add = COLLECTION.add


def _saved() -> tuple[bytes, dict[str, torch.Tensor]]:
    net, _ = trained()
    buffer = io.BytesIO()
    torch.save(net.state_dict(), buffer)
    return buffer.getvalue(), net.state_dict()


def _tarred(data: bytes, mode: str, *names: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = len(data) if name.endswith(".pth") else 9
            archive.addfile(member, io.BytesIO(data if name.endswith(".pth") else b"# Read me"))
    return buffer.getvalue()


def _zipped(data: bytes, method: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("run/model.pth", data)
        archive.writestr("run/README.md", "# Read me")
    return buffer.getvalue()


def _within(name: str, kind: str, pack: Callable[[bytes], bytes]) -> Callable[[Path], Made]:
    def write(folder: Path) -> Made:
        data, state = _saved()
        (folder / name).write_bytes(pack(data))
        return Truth(folder / name, f"torch zip in {kind}", roles={"model": state}, plain={"model": state})

    return write


for name, kind, what, pack in (
    ("model.pth.bz2", "bzip2", "bzip2'd", bz2.compress),
    ("model.pth.xz", "xz", "xz'd", lzma.compress),
    ("model.tar", "tar archive", "in a tar with other files", lambda d: _tarred(d, "w", "r/README.md", "r/model.pth")),
    ("model.tar.gz", "tar archive in gzip", "in a .tar.gz", lambda d: _tarred(d, "w:gz", "r/model.pth")),
    ("model.tar.xz", "tar archive in xz", "in a .tar.xz", lambda d: _tarred(d, "w:xz", "r/model.pth")),
    ("stored.zip", "zip archive", "in a zip, stored", lambda d: _zipped(d, zipfile.ZIP_STORED)),
    ("model.zip", "zip archive", "in a zip, deflated", lambda d: _zipped(d, zipfile.ZIP_DEFLATED)),
):  # fmt: skip
    COLLECTION.put(f"archive-{name.replace('.', '-')}", f"torch.save, {what}", _within(name, kind, pack))


@add("torch.save, a line feed added behind it")
def archive_line_feed(folder: Path) -> Made:
    data, state = _saved()
    (folder / "m.pth").write_bytes(data + b"\n")
    return Truth(folder / "m.pth", "torch zip", roles={"model": state}, plain={"model": state})


@add("two checkpoints in a .tar.gz")
def archive_of_two(folder: Path) -> Made:
    (folder / "two.tar.gz").write_bytes(_tarred(_saved()[0], "w:gz", "r/a.pth", "r/b.pth"))
    return Refusal(folder / "two.tar.gz", "2 files that begin like checkpoints; .*r/a.pth.*open the one you mean")


@add("torch.save of a module by protocol 0, which torch no longer reads")
def protocol_0(folder: Path) -> Made:
    net, _ = trained()
    torch.save(net, folder / "m.pth", pickle_protocol=0, _use_new_zipfile_serialization=False)
    state = net.state_dict()
    return Truth(folder / "m.pth", "torch legacy", roles={"model": state}, plain={"model": state})
