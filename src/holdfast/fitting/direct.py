"""Values from files and from memory into the memory of live tensors: each file is read where its values are to be.

It knows nothing of modules: `live.py` says which tensors may be written to without asking their module.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from holdfast.errors import CheckpointMismatch
from holdfast.formats import LazyTensor
from holdfast.formats.copying import is_streamed
from holdfast.formats.proving import largest_first

Value = Tensor | LazyTensor


def check_types(values: Mapping[str, Value], targets: Mapping[str, Tensor]) -> None:
    """Does nothing when each value can be converted to the type of its target.

    Args:
        values, targets: name → tensor.

    Raises:
        CheckpointMismatch: torch has no conversion between the two types.
    """
    tried: set[tuple[torch.dtype, torch.dtype]] = set()
    for name, value in values.items():
        source = value.torch_dtype() if isinstance(value, LazyTensor) else value.dtype
        target = targets[name].dtype
        if source == target or (source, target) in tried:
            continue
        tried.add((source, target))
        try:
            torch.empty(1, dtype=target).copy_(torch.empty(1, dtype=source))
        except RuntimeError as error:  # NotImplementedError is one
            raise CheckpointMismatch(
                f"Loading {name}: it is {source} in the file and {target} in the model, and torch converts none into "
                f"the other ({error}); expected types that it converts. Give the model another type, or the file."
            ) from error


def copy_all(values: Mapping[str, Value], targets: Mapping[str, Tensor]) -> None:
    """Copies values into the memory of tensors, converted to their types, on their devices.

    What is in files must have been proven (`formats/proving.py`); it is read here and no more, in several threads
    where targets are on the CPU. Nothing that was read stays in memory.

    Args:
        values: name → value.
        targets: name → tensor of the same shape.

    Raises:
        CheckpointCorrupt: a file was cut since it was proven.
    """
    streamed: dict[int, list[tuple[LazyTensor, Tensor]]] = {}
    whole: dict[int, list[tuple[LazyTensor, Tensor]]] = {}
    for name, value in values.items():
        target = targets[name].detach()
        if not isinstance(value, LazyTensor):
            target.copy_(value)
        elif is_streamed(value) and target.device.type == "cpu":
            # Tensors that overlap are written to one after another, so that the same one is last every time.
            streamed.setdefault(target.untyped_storage().data_ptr(), []).append((value, target))
        else:
            whole.setdefault(id(value.storage.data), []).append((value, target))
    largest_first(_stream, list(streamed.values()), _num_bytes)
    for group in whole.values():
        data = group[0][0].storage.data
        was_read = data.is_read
        for value, target in group:
            value.copy_into(target, proven=True)
        if not was_read:
            data.forget()


def _stream(group: list[tuple[LazyTensor, Tensor]]) -> None:
    for value, target in group:
        value.copy_into(target, proven=True)


def _num_bytes(group: list[tuple[LazyTensor, Tensor]]) -> int:
    return sum(value.num_bytes for value, _ in group)
