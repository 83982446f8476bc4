from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import save_file

from holdfast.checkpoints import CheckpointStore
from holdfast.errors import CheckpointError, ConfigError
from holdfast.toolbox import verify

STATE = {"fc.weight": torch.arange(12.0).reshape(3, 4), "fc.bias": torch.arange(3.0)}


def _gzip(path: Path) -> None:
    torch.save(STATE, path)
    path.write_bytes(gzip.compress(path.read_bytes()))


def _without(path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(STATE, path)
    finally:
        torch.serialization.set_crc32_options(True)


WITH: dict[str, Callable[[Path], object]] = {
    "torch.save": lambda path: torch.save({"model": STATE, "epoch": 3}, path),
    "gzip": _gzip,
    "npz": lambda path: np.savez(path, **{name: tensor.numpy() for name, tensor in STATE.items()}),
}
WITHOUT: dict[str, Callable[[Path], object]] = {
    "torch.save without checksums": _without,
    "torch.save of before 1.6": lambda path: torch.save(STATE, path, _use_new_zipfile_serialization=False),
    "safetensors of others": lambda path: save_file(STATE, path),
}


@pytest.mark.parametrize("kind", WITH)
def test_what_carries_checksums_is_proven_and_a_flipped_bit_is_found(tmp_path: Path, kind: str) -> None:
    """The file as it was written is ok; with one bit of a tensor changed it is damaged."""
    path = tmp_path / "a.npz"
    WITH[kind](path)
    found = verify(str(path))
    assert found.ok
    assert [(f.verdict, f.num_tensors, f.num_bytes) for f in found.files] == [("ok", 2, path.stat().st_size)]
    data = bytearray(path.read_bytes())
    at = data.find(STATE["fc.weight"].numpy().tobytes()) if kind != "gzip" else len(data) // 2
    data[at + 5] ^= 1
    path.write_bytes(data)
    found = verify(str(path))
    assert not found.ok
    assert found.files[0].verdict == "damaged"
    assert str(path) in (found.files[0].problem or "")


@pytest.mark.parametrize("kind", WITHOUT)
def test_what_carries_none_is_not_called_proven(tmp_path: Path, kind: str) -> None:
    """It is whole, and that is all that can be said; cut short it is damaged."""
    path = tmp_path / "a.bin"
    WITHOUT[kind](path)
    found = verify(str(path))
    assert not found.ok
    assert found.files[0].verdict == "not provable"
    path.write_bytes(path.read_bytes()[:-7])
    assert verify(str(path)).files[0].verdict == "damaged"


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_a_folder_of_others_is_read_whole(tmp_path: Path) -> None:
    """A directory of torch.distributed.checkpoint: not provable as it is, damaged when a piece is cut."""
    dcp.save({"model": dict(STATE)}, checkpoint_id=tmp_path / "d")
    assert verify(str(tmp_path / "d")).files[0].verdict == "not provable"
    piece = next((tmp_path / "d").glob("*.distcp"))
    piece.write_bytes(piece.read_bytes()[:-50])
    assert verify(str(tmp_path / "d")).files[0].verdict == "damaged"


def test_ours_are_proven_as_before(tmp_path: Path) -> None:
    """A folder of checkpoints, one of them, and its model's file: by their digests."""
    store = CheckpointStore(tmp_path / "a", background=False)
    store.save(1, {"model": dict(STATE)})
    for place in ("a", "a/step-00000001", "a/step-00000001/model.safetensors"):
        assert verify(str(tmp_path / place)).ok


def test_what_is_none_is_refused_with_what_it_is(tmp_path: Path) -> None:
    """A page, and nothing at all."""
    (tmp_path / "a.pt").write_bytes(b"<html></html>")
    with pytest.raises(CheckpointError, match="it is a web page"):
        verify(str(tmp_path / "a.pt"))
    with pytest.raises(ConfigError, match="there is nothing at"):
        verify(str(tmp_path / "b.pt"))
