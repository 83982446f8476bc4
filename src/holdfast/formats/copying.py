"""The values of a file's tensor into a tensor that is there: its own memory is read into where that can be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.formats.lazy_tensor import ITEM_BYTES, LazyTensor

if TYPE_CHECKING:
    import torch

_CAST_VALUES = 1 << 15  # values converted at once; of more, torch would give some to threads of its own


def is_streamed(tensor: LazyTensor) -> bool:
    """Returns whether a tensor's values are one piece of its file as they are, with nothing to turn round or leave out.

    Then any part of them can be read alone. Other tensors are made from the whole storage, which keeps what it read.
    """
    data = tensor.storage.data
    straight = data.read_into is not None and not data.is_read and data.swap_bytes == 1 and not tensor.flags
    return straight and bool(tensor.num_values) and _is_dense(tensor)


def copy_into(tensor: LazyTensor, target: torch.Tensor, *, proven: bool) -> None:
    """Writes the values into a tensor of the same shape, converted to its type, on its device.

    Args:
        tensor: what to read.
        target: any dtype and device; written to as it is.
        proven: its storage was proven before (`proving.py`), so the file is read and no more. Then no memory is needed
            but that of a tensor of another device or layout, one at a time.

    Raises:
        CheckpointCorrupt: the bytes are not all there; or, when not proven before, do not match their checksum.
        CheckpointError: this torch has no such type.
        ValueError: its shape is another one.
    """
    if tuple(target.shape) != tensor.shape:
        raise ValueError(f"a target of shape {list(target.shape)} for {tensor!r}")
    whole = tensor.storage.data.num_bytes == tensor.num_bytes
    dtype = tensor.torch_dtype()
    if not is_streamed(tensor) or not (proven or (whole and target.dtype == dtype and _lies_alike(tensor, target))):
        target.copy_(tensor.to_torch())
        return
    if not _lies_alike(tensor, target):
        import torch

        values = torch.empty(tensor.num_values, dtype=dtype)
        _read(tensor, values, 0, proven=True)
        target.copy_(values.as_strided(tensor.shape, tensor.strides))
        return
    flat = target.detach().as_strided((tensor.num_values,), (1,))
    if target.dtype == dtype:
        _read(tensor, flat, 0, proven=proven)
    else:
        _cast(tensor, flat, dtype)


def _cast(tensor: LazyTensor, flat: torch.Tensor, dtype: torch.dtype) -> None:
    import torch

    buffer = torch.empty(min(_CAST_VALUES, len(flat)), dtype=dtype)
    for at in range(0, len(flat), _CAST_VALUES):
        piece = buffer[: len(flat) - at]
        _read(tensor, piece, at, proven=True)
        flat[at : at + _CAST_VALUES].copy_(piece)


def _read(tensor: LazyTensor, values: torch.Tensor, first: int, *, proven: bool) -> None:
    """Fills values of the tensor's own type, side by side on the CPU, from the `first` of it on."""
    import torch

    read_into = tensor.storage.data.read_into
    assert read_into is not None
    start = tensor.storage.start + (tensor.offset + first) * ITEM_BYTES[tensor.dtype]
    read_into(values.view(torch.uint8).numpy().data, start, proven=proven)
    torch.autograd.graph.increment_version(values)  # or a graph that keeps the old values would not notice


def _is_dense(tensor: LazyTensor) -> bool:
    """Returns whether the values fill their piece of the storage, in whatever order of axes."""
    step = 1
    for stride, extent in sorted(zip(tensor.strides, tensor.shape, strict=True)):
        if extent > 1:
            if stride != step:
                return False
            step *= extent
    return True


def _lies_alike(tensor: LazyTensor, target: torch.Tensor) -> bool:
    """Returns whether the target is plain memory of the CPU, with the same steps along each axis as in the file."""
    import torch

    if type(target.data) is not torch.Tensor or target.device.type != "cpu" or target.layout != torch.strided:
        return False
    if target.is_conj() or target.is_neg() or target.is_quantized:
        return False
    steps = zip(tensor.strides, target.stride(), tensor.shape, strict=True)
    return all(extent == 1 or ours == theirs for ours, theirs, extent in steps)
