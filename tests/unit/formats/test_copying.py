from __future__ import annotations

import gzip
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor

from holdfast import open_checkpoint
from holdfast.checkpoints import write_single_file
from holdfast.errors import CheckpointCorrupt
from holdfast.formats import LazyTensor
from holdfast.formats.copying import is_streamed
from holdfast.formats.proving import prove

_BASE = torch.arange(120_000.0).reshape(30, 40, 100)
TRUTH: dict[str, Tensor] = {
    "a.whole": _BASE,
    "a.turned": _BASE.permute(2, 0, 1).clone(memory_format=torch.preserve_format),
    "a.last": torch.randn(8, 16, 12, 12).to(memory_format=torch.channels_last),
    "a.part": torch.arange(50_000.0)[20_000:40_000],
    "a.gaps": torch.arange(50_000.0)[::2],
    "a.expanded": torch.arange(300.0).expand(100, 300),
    "a.half": torch.arange(100_000).bfloat16(),
    "a.complex": torch.complex(torch.arange(40_000.0), torch.ones(40_000)).conj(),
    "a.bool": torch.arange(100_000) % 3 == 0,
    "a.empty": torch.empty(0, 7),
    "a.scalar": torch.tensor(3.5),
}


def _big_endian(path: Path) -> None:
    torch.save({name: t.contiguous() for name, t in TRUTH.items() if not t.is_conj()}, path)
    with zipfile.ZipFile(path) as old:
        entries = {name: old.read(name) for name in old.namelist()}
    widths = {"float32": 4, "bfloat16": 2, "bool": 1}
    tensors = open_checkpoint(path).role()
    for tensor in tensors.values():
        assert isinstance(tensor, LazyTensor)
        key = f"t/data/{tensor.storage.data.key}"
        turned = np.frombuffer(entries[key], f"V{widths[tensor.dtype]}").view(np.uint8)
        entries[key] = turned.reshape(-1, widths[tensor.dtype])[:, ::-1].tobytes()
    entries["t/byteorder"] = b"big"
    with zipfile.ZipFile(path, "w") as new:
        for name, data in entries.items():
            new.writestr(name, data)


def _deflated(path: Path) -> None:
    torch.save(TRUTH, path)
    with zipfile.ZipFile(path) as old:
        entries = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name, data in entries.items():
            new.writestr(name, data)


def _gzipped(path: Path) -> None:
    torch.save(TRUTH, path)
    path.write_bytes(gzip.compress(path.read_bytes(), 1))


def _plain() -> dict[str, Tensor]:
    return {name: tensor.resolve_conj().contiguous() for name, tensor in TRUTH.items()}


LAYOUTS = {
    "zip": lambda path: torch.save(TRUTH, path),
    "before 1.6": lambda path: torch.save(TRUTH, path, _use_new_zipfile_serialization=False),
    "deflated": _deflated,
    "gzip": _gzipped,
    "big-endian": _big_endian,
    "safetensors": lambda path: safetensors.torch.save_file(_plain(), path),
    "our own": lambda path: write_single_file(path, _plain(), {"step": 1}),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_proven_values_are_copied_whatever_the_layout(tmp_path: Path, layout: str) -> None:
    """Into tensors of the same type and of others, as they lie in the file, row by row and column by column."""
    LAYOUTS[layout](tmp_path / "t.pt")
    tensors = open_checkpoint(tmp_path / "t.pt").role()
    prove(tensors.values())
    for name, lazy in tensors.items():
        truth = TRUTH[name]
        columns = torch.zeros(truth.shape[::-1], dtype=truth.dtype).permute(tuple(range(truth.ndim))[::-1])
        for target in (
            torch.zeros(truth.shape, dtype=truth.dtype),
            torch.zeros_like(truth, memory_format=torch.preserve_format),
            columns,
            torch.zeros(truth.shape, dtype=torch.complex64 if truth.is_complex() else torch.float64),
            torch.zeros(2 * truth.numel(), dtype=truth.dtype)[::2].view(truth.shape),
        ):
            lazy.copy_into(target, proven=True)
            assert torch.equal(target, truth.to(target.dtype)), (name, target.stride())


def test_what_is_copied_piece_by_piece_is_not_kept(tmp_path: Path) -> None:
    """Same type, another type, another order of axes: the file's storage holds no memory afterwards."""
    torch.save(TRUTH, tmp_path / "t.pt")
    tensors = open_checkpoint(tmp_path / "t.pt").role()
    streamed = [name for name, lazy in tensors.items() if is_streamed(lazy)]
    assert streamed == ["a.whole", "a.turned", "a.last", "a.part", "a.half", "a.bool", "a.scalar"]
    for name in streamed:
        lazy, shape = tensors[name], TRUTH[name].shape
        columns = torch.zeros(shape[::-1]).permute(tuple(range(len(shape)))[::-1])
        for target in (torch.zeros_like(TRUTH[name]), torch.zeros(shape), columns):
            lazy.copy_into(target, proven=True)
        assert not lazy.storage.data.is_read


@pytest.mark.parametrize("layout", ["zip", "safetensors", "our own"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_file_that_is_cut_after_the_proof_is_corrupt(tmp_path: Path, layout: str, dtype: torch.dtype) -> None:
    """It is told with the place at which the file ends now; the process goes on."""
    LAYOUTS[layout](tmp_path / "t.pt")
    lazy = open_checkpoint(tmp_path / "t.pt").role()["a.whole"]
    prove([lazy])
    with (tmp_path / "t.pt").open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(CheckpointCorrupt, match=r"t.pt: it ends at byte 1,000; expected [\d,]+ bytes from"):
        lazy.copy_into(torch.zeros(_BASE.shape, dtype=dtype), proven=True)


def test_mapping_a_file_that_was_cut_is_corrupt(tmp_path: Path) -> None:
    """Touching the mapped pages would end the process; the size is looked at before."""
    torch.save({"a.b": torch.ones(1 << 20)}, tmp_path / "t.pt", _use_new_zipfile_serialization=False)
    lazy = open_checkpoint(tmp_path / "t.pt").role()["a.b"]
    prove([lazy])
    with (tmp_path / "t.pt").open("r+b") as file:
        file.truncate(5000)
    with pytest.raises(CheckpointCorrupt, match=r"t.pt: it ends at byte 5,000; expected 4,194,304 bytes"):
        lazy.copy_into(torch.zeros(1 << 20), proven=True)


def test_a_graph_notices_that_its_values_were_replaced(tmp_path: Path) -> None:
    """Memory that was read into counts as changed in place, so that no gradient of old values is made of new ones."""
    torch.save({"a.b": torch.ones(100_000)}, tmp_path / "t.pt")
    weight = torch.zeros(100_000, requires_grad=True)
    loss = (weight * weight).sum()
    lazy = open_checkpoint(tmp_path / "t.pt").role()["a.b"]
    lazy.copy_into(weight.detach())
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_values_go_to_a_gpu(tmp_path: Path) -> None:
    """Of the same type and of another one."""
    torch.save(TRUTH, tmp_path / "t.pt")
    tensors = open_checkpoint(tmp_path / "t.pt").role()
    prove(tensors.values())
    for name, lazy in tensors.items():
        for dtype in (TRUTH[name].dtype, torch.complex128):
            target = torch.zeros(TRUTH[name].shape, dtype=dtype, device="cuda")
            lazy.copy_into(target, proven=True)
            assert torch.equal(target.cpu(), TRUTH[name].to(dtype))
