from __future__ import annotations

import torch

from holdfast.data.loading.buffers import Buffers


def test_memory_is_used_again_once_nobody_holds_it() -> None:
    """The same memory comes back when the tensor is gone, and not before."""
    buffers = Buffers()
    first = buffers.empty((4, 5))
    place = first.data_ptr()
    assert buffers.empty((4, 5)).data_ptr() != place
    del first
    assert buffers.empty((4, 5)).data_ptr() == place


def test_a_view_of_a_tensor_holds_its_memory() -> None:
    """What a caller kept of a batch is never overwritten, whatever it kept: a row, a slice, a NumPy array."""
    buffers = Buffers()
    kept = []
    for value in range(12):
        batch = buffers.empty((3, 2)).fill_(value)
        kept.append([batch[1], batch[1:].T, batch.numpy()][value % 3])
        del batch
    for value, part in enumerate(kept):
        assert (torch.as_tensor(part) == value).all()


def test_a_smaller_batch_fits_into_the_memory_of_a_larger_one() -> None:
    """The last batch of an epoch takes no memory of its own; a larger one does."""
    buffers = Buffers()
    large = buffers.empty((8, 3))
    place = large.data_ptr()
    del large
    small = buffers.empty((2, 3))
    assert small.data_ptr() == place and small.shape == (2, 3)
    assert buffers.empty((9, 3)).data_ptr() != place


def test_any_type_and_even_nothing_can_be_asked_for() -> None:
    """Types have their sizes, and an empty tensor needs no memory."""
    buffers = Buffers()
    assert buffers.empty((2, 2), torch.uint8).dtype == torch.uint8
    assert buffers.empty((0, 3)).shape == (0, 3)
