from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from holdfast import open_checkpoint
from holdfast.checkpoints import write_single_file
from holdfast.errors import CheckpointCorrupt
from holdfast.formats.byte_file import ByteFile
from holdfast.formats.zip_archive import ZipArchive

TRUTH: dict[str, Tensor] = {
    "a.whole": torch.arange(1_500_000.0),
    "a.half": torch.arange(9).bfloat16().reshape(3, 3),
    "a.turned": torch.arange(6.0).reshape(2, 3).T,
    "a.part": torch.arange(10.0)[2:5],
    "a.scalar": torch.tensor(3),
    "a.empty": torch.empty(0, 2),
    "a.complex": torch.tensor([1 + 2j]).conj(),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with tensors of many layouts."""
    torch.save(TRUTH, tmp_path / "t.pt")
    return tmp_path / "t.pt"


@pytest.mark.parametrize("name", TRUTH)
def test_values_are_copied_into_a_tensor_that_is_there(name: str, path: Path) -> None:
    """Of the same type and layout, of another type, and of another layout."""
    lazy, truth = open_checkpoint(path).role()[name], TRUTH[name]
    for target in (torch.full_like(truth, 7), torch.zeros(truth.shape, dtype=torch.complex128)):
        lazy.copy_into(target)
        assert torch.equal(target, truth.to(target.dtype))
    if truth.ndim == 2:
        columns = torch.zeros_like(truth.T.contiguous()).T
        lazy.copy_into(columns)
        assert torch.equal(columns, truth)


def test_large_tensors_go_straight_into_the_target(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither mapped nor read into memory of their own, as those that need converting are."""
    asked = []
    buffer = ZipArchive.buffer
    monkeypatch.setattr(ZipArchive, "buffer", lambda self, name: (asked.append(name), buffer(self, name))[1])
    lazy = open_checkpoint(path).role()["a.whole"]
    asked.clear()
    lazy.copy_into(torch.zeros(1_500_000))
    assert asked == []
    lazy.copy_into(torch.zeros(1_500_000, dtype=torch.float64))
    assert len(asked) == 1


def test_another_shape_is_refused(path: Path) -> None:
    """Even where the number of values is the same."""
    with pytest.raises(ValueError, match=r"a target of shape \[9\] for <bfloat16 \[3, 3\]>"):
        open_checkpoint(path).role()["a.half"].copy_into(torch.zeros(9))


@pytest.mark.parametrize("at", [0, 3_000_000, 5_999_999])
def test_a_changed_bit_shows_on_the_way(at: int, path: Path) -> None:
    """The checksum is that of what was copied: wherever the bit is, the tensor is refused."""
    data = bytearray(path.read_bytes())
    data[data.find(TRUTH["a.whole"].numpy().tobytes()[:400]) + at] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointCorrupt, match=r"t.pt: .* 't/data/0' that does not match its checksum"):
        open_checkpoint(path).role()["a.whole"].copy_into(torch.zeros(1_500_000))


def test_our_own_files_are_proven_on_the_way_too(tmp_path: Path) -> None:
    """Their digest is compared with what arrived."""
    path = tmp_path / "best.safetensors"
    write_single_file(path, {"w.x": torch.ones(400_000)}, {"step": 3})
    target = torch.zeros(400_000)
    open_checkpoint(path).role()["w.x"].copy_into(target)
    assert target.sum() == 400_000
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with pytest.raises(CheckpointCorrupt, match=r"best.safetensors: w.x does not match its digest"):
        open_checkpoint(path).role()["w.x"].copy_into(target)


def test_safetensors_are_copied_as_well(tmp_path: Path) -> None:
    """From the file, which has no checksums, and from one that was cut after it was opened."""
    path = tmp_path / "s.safetensors"
    safetensors.torch.save_file({"w.x": torch.ones(400_000)}, path)
    lazy, target = open_checkpoint(path).role()["w.x"], torch.zeros(400_000)
    lazy.copy_into(target)
    assert target.sum() == 400_000
    with path.open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(CheckpointCorrupt, match=r"s.safetensors: it ends at byte 1,000; expected 1,600,000 bytes"):
        lazy.copy_into(target)


def test_entries_that_are_deflated_are_copied_too(tmp_path: Path) -> None:
    """What must be decompressed is, and proven."""
    import zipfile

    with zipfile.ZipFile(tmp_path / "d.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", b"x" * 1000)
    target = bytearray(1000)
    ZipArchive(ByteFile(tmp_path / "d.zip")).read_into("a", memoryview(target))
    assert target == b"x" * 1000
