from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from holdfast.errors import CheckpointError, CheckpointMismatch
from holdfast.formats.lazy_tensor import LazyTensor
from holdfast.toolbox.source import TensorReader, open_any, select_model

Save = Callable[..., Path]


def test_a_model_has_plain_names_and_remembers_those_of_the_file(save: Save, tied: nn.Module) -> None:
    """The words of wrappers are left out; on request they stay."""
    opened = open_any(save("a.pt", {"model": {f"module.{k}": v for k, v in tied.state_dict().items()}}))
    source = select_model(opened)
    assert list(source.tensors) == list(tied.state_dict())
    assert source.file_names["first.weight"] == "module.first.weight"
    assert source.ties == {"last.weight": "first.weight"}
    assert next(iter(select_model(opened, names="file").tensors)) == "module.first.weight"
    assert source.shapes["first.weight"] == (4, 4)
    assert (source.role, source.is_ours, source.facts) == ("model", False, {})


def test_names_that_save_model_left_out_come_back(tied: nn.Module, tmp_path: Path) -> None:
    """The safetensors library notes tied names in the header; they are tied again."""
    safetensors.torch.save_model(tied, str(tmp_path / "a.safetensors"))
    source = select_model(open_any(tmp_path / "a.safetensors"))
    assert set(source.tensors) == set(tied.state_dict())
    assert set(source.ties) | set(source.ties.values()) == {"first.weight", "last.weight"}


def test_what_is_no_tensor_of_the_model_is_named(save: Save) -> None:
    """Counters of wrappers and extra states are listed, not lost in silence."""
    state = {"n_averaged": torch.tensor(3), "module.w.a": torch.ones(2), "module.w._extra_state": b"x"}
    source = select_model(open_any(save("a.pt", state)))
    assert list(source.tensors) == ["w.a"]
    assert sorted(source.left_out) == ["module.w._extra_state", "n_averaged"]


def test_choosing_fails_when_no_model_is_the_obvious_one(save: Save) -> None:
    """Two models of equal rank are listed for a choice."""
    opened = open_any(save("gan.pt", {"generator": {"a.w": torch.ones(1)}, "critic": {"a.w": torch.ones(1)}}))
    with pytest.raises(CheckpointMismatch, match="several weights and none that is obvious; it has critic, generator"):
        select_model(opened)
    assert select_model(opened, "critic").role == "critic"


def test_choosing_fails_when_tensors_cannot_be_made(save: Save) -> None:
    """Sparse tensors are named, with the file, before anything is compared or converted."""
    path = save("sparse.pt", {"a.w": torch.ones(2, 2).to_sparse(), "a.b": torch.ones(2)})
    with pytest.raises(CheckpointError, match=r"1 of its 2 tensors are not dense ones:\n  a\.w: <inert"):
        select_model(open_any(path))


def test_the_reader_keeps_one_tensor_and_not_the_others(save: Save) -> None:
    """What was read is given back: neither the file's own tensor nor the reader holds on to it."""
    lazy = open_any(save("a.pt", {"a.w": torch.ones(600_000), "b.w": torch.full((600_000,), 2.0)})).role()
    reader = TensorReader()
    assert isinstance(lazy["a.w"], LazyTensor)
    first = reader.read(lazy["a.w"])
    assert first.sum() == 600_000
    import weakref

    kept = weakref.ref(first)
    del first
    assert float(reader.read(lazy["b.w"])[0]) == 2
    gc.collect()
    assert kept() is None
    assert lazy["a.w"].storage.data._made is None


def test_the_reader_gives_views_as_they_are(save: Save) -> None:
    """Strides and offsets are those of the file."""
    square = torch.arange(12.0).reshape(3, 4)
    lazy = open_any(save("a.pt", {"a.w": square.t()[1:], "b.w": square})).role()
    assert torch.equal(TensorReader().read(lazy["a.w"]), square.t()[1:])
