from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch

from holdfast.checkpoints import readers
from holdfast.checkpoints.digest import digest_of
from holdfast.checkpoints.files import write_durably
from holdfast.checkpoints.tensor_proof import damaged_tensors, is_proven
from holdfast.checkpoints.tensors import PLAIN, TensorFile, WrittenFile, write_tensors


@pytest.fixture(params=[1, 1 << 30], ids=["threads", "one thread"])
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> WrittenFile:
    """A file of nine tensors of very different sizes, one of them empty, hashed by three threads or by one."""
    monkeypatch.setattr(readers, "_WORTH_A_THREAD", request.param)
    monkeypatch.setattr(readers, "_READERS", 3)
    tensors = {f"t{n}": torch.arange(float(size)) for n, size in enumerate([1, 50, 0, 3, 700, 2, 2, 90, 5])}
    return write_tensors(partial(write_durably, tmp_path / "a.safetensors"), tensors, PLAIN)


def test_every_byte_of_a_file_is_covered(tmp_path: Path, written: WrittenFile) -> None:
    """The file as it was written is proven; with any one byte changed, in the header or in a tensor, it is not."""
    path = tmp_path / "a.safetensors"
    assert is_proven(TensorFile(path), written.tensors, written.digest)
    data = path.read_bytes()
    start = len(TensorFile(path).header_data())
    for at in [*range(start - 30, start - 1), *range(start, len(data), 7), len(data) - 1]:
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        try:
            file = TensorFile(path)
        except Exception:
            assert at < start
            continue
        assert not is_proven(file, written.tensors, written.digest), at


def test_the_tensors_that_were_hit_are_named_in_order(tmp_path: Path, written: WrittenFile) -> None:
    """Whichever thread finds them; one that the file does not have counts too."""
    path = tmp_path / "a.safetensors"
    file = TensorFile(path)
    start = len(file.header_data())
    data = bytearray(path.read_bytes())
    for name in ("t7", "t0", "t4"):
        data[start + file.entries[name]["data_offsets"][0]] ^= 1
    path.write_bytes(data)
    expected = {**written.tensors, "lost": written.tensors["t0"]}
    assert damaged_tensors(TensorFile(path), expected) == ["t0", "t4", "t7", "lost"]
    assert damaged_tensors(TensorFile(path), written.tensors) == ["t0", "t4", "t7"]


def test_a_header_written_otherwise_is_proven_by_the_digest_of_the_whole_file(
    tmp_path: Path, written: WrittenFile
) -> None:
    """Another version may add to the header: then only the file's own digest covers it."""
    path = tmp_path / "a.safetensors"
    file = TensorFile(path)
    header = bytes(file.header_data()).rstrip()
    data = header[8:] + b" " * (16 - len(header) % 8)
    path.write_bytes(len(data).to_bytes(8, "little") + data + path.read_bytes()[len(file.header_data()) :])
    assert not is_proven(TensorFile(path), written.tensors, written.digest)
    assert is_proven(TensorFile(path), written.tensors, digest_of(path.read_bytes()))


def test_tensors_that_the_manifest_does_not_know_are_not_proven(tmp_path: Path, written: WrittenFile) -> None:
    """A file with one tensor more than was recorded is not the one that was written, though all others are right."""
    fewer = {name: entry for name, entry in written.tensors.items() if name != "t8"}
    assert not is_proven(TensorFile(tmp_path / "a.safetensors"), fewer, digest_of(b""))
    assert damaged_tensors(TensorFile(tmp_path / "a.safetensors"), fewer) == []
