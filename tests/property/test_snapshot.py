from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from holdfast.checkpoints.flatten import FlatState
from holdfast.checkpoints.snapshot import Snapshot, SnapshotMemory
from holdfast.checkpoints.tensors import DTYPE_NAMES, tensor_bytes


@st.composite
def _views(draw: st.DrawFn) -> torch.Tensor:
    """Any bits, of any dtype, with the dimensions in any order, and every so-many-th of each."""
    dtype = draw(st.sampled_from(sorted(DTYPE_NAMES, key=str)))
    shape = draw(st.lists(st.integers(0, 4), max_size=4))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    high = 2 if dtype is torch.bool else 256
    count = math.prod(shape)
    raw = torch.randint(high, (count * dtype.itemsize,), generator=generator, dtype=torch.uint8)
    whole = raw.view(dtype).reshape(shape).permute(draw(st.permutations(range(len(shape)))))
    steps = draw(st.lists(st.integers(1, 3), min_size=len(shape), max_size=len(shape)))
    return whole[tuple(slice(None, None, step) for step in steps)]


@given(tensors=st.lists(_views(), max_size=4), steady=st.booleans())
def test_a_snapshot_of_any_views_is_equal_to_the_last_bit(tensors: list[torch.Tensor], steady: bool) -> None:
    """What is written of a copy is what would be written of the tensor, copied at once or beside the loop."""
    storages = {tensor.data_ptr() for tensor in tensors if tensor.numel()} if steady else set()
    state = FlatState(None, {str(number): tensor for number, tensor in enumerate(tensors)})
    copies = Snapshot({"model": state}, storages, SnapshotMemory()).states()["model"].tensors
    assert [bytes(tensor_bytes(copies[name])) for name in copies] == [bytes(tensor_bytes(t)) for t in tensors]
    assert [(t.dtype, t.shape) for t in copies.values()] == [(t.dtype, t.shape) for t in tensors]
