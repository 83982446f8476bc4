"""Values from proven files straight into the memory where they belong, on all cores.

A module copies what it loads tensor by tensor, from the pages of a file. Where nothing of its own has a say in that,
its memory is filled first, and it is then handed its own tensors: it still does all that loading means (hooks,
versions), and has nothing left to copy. What is not plain is left to the module.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from holdfast.checkpoints.readers import read_into
from holdfast.checkpoints.tensors import DTYPES, TensorFile, tensor_bytes

Fill = Callable[[Mapping[Any, tuple[Tensor, Tensor]]], set[Any]]
_WORTH_HUGE_PAGES = 4 << 20  # bytes; from here on NumPy asks for them
_ALIGNMENT = 64  # bytes
_LOADING = ("load_state_dict", "_load_from_state_dict")


def copies(file: TensorFile) -> dict[str, Tensor]:
    """Returns all tensors of a file, in memory of their own on the CPU. Raises as `read_into` does."""
    made: dict[str, Tensor] = {}
    reads = []
    for name, entry in file.entries.items():
        made[name] = _new(entry["shape"], DTYPES[entry["dtype"]])
        if made[name].numel():
            reads.append((file.span(name)[0], tensor_bytes(made[name])))
    read_into(file.path, reads)
    return made


def _new(shape: list[int], dtype: torch.dtype) -> Tensor:
    """Returns uninitialised memory. Large memory is NumPy's, which asks for huge pages: touching it costs a fourth."""
    num_bytes = math.prod(shape) * dtype.itemsize
    if num_bytes < _WORTH_HUGE_PAGES:
        return torch.empty(shape, dtype=dtype)
    memory = np.empty(num_bytes + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT  # torch's own tensors begin so, and some kernels round by where one begins
    return torch.from_numpy(memory[start : start + num_bytes]).view(dtype).view(shape)


def fill_from(files: Iterable[TensorFile]) -> Fill:
    """Returns what fills memory from `files`.

    It is called with key → (the tensor to fill, on the CPU and row-major; a tensor of the same type and shape), and
    returns the keys of those that it filled: those whose values lie in one of the files, row-major. It raises as
    `read_into` does.
    """
    files = list(files)

    def fill(pairs: Mapping[Any, tuple[Tensor, Tensor]]) -> set[Any]:
        filled = set()
        for file in files:
            reads = []
            for key, (target, saved) in pairs.items():
                start = file.position(saved)
                if start is not None:
                    reads.append((start, tensor_bytes(target)))
                    filled.add(key)
            read_into(file.path, sorted(reads, key=lambda read: read[0]))
        return filled

    return fill


def load_module(module: nn.Module, state: dict[str, Any], fill: Fill | None) -> None:
    """Loads a state that fits, as `module.load_state_dict` does.

    Args:
        module: its tensors are changed in place.
        state: name → tensor, for every name of its own state.
        fill: see `fill_from`.
    """
    if fill is not None and _is_plain(module):
        pairs = {name: (live, state[name]) for name, live in _fillable(module, state).items()}
        alone, same = _apart(pairs)
        filled = fill(alone)
        for name, first in same.items():
            if first in filled:
                state[name] = pairs[name][0]
    module.load_state_dict(state)


def _is_plain(module: nn.Module) -> bool:
    """Whether loading is torch's own, so that nothing refuses or changes what is loaded."""
    if torch.__future__.get_swap_module_params_on_conversion():
        return False
    return all(
        _is_class_plain(type(one)) and not one._load_state_dict_pre_hooks and not vars(one).keys() & set(_LOADING)
        for one in module.modules()
    )


def _is_class_plain(kind: type) -> bool:
    return all(getattr(kind, name).__module__.partition(".")[0] == "torch" for name in _LOADING)


def _fillable(module: nn.Module, state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Returns the live tensors, by name in the state, whose memory is that of row-major plain values on the CPU."""
    live = dict(module.named_parameters(remove_duplicate=False)) | dict(module.named_buffers(remove_duplicate=False))
    return {
        name: live[name].detach()
        for name, saved in state.items()
        if isinstance(saved, Tensor) and name in live and _takes_bytes(live[name], saved)
    }


def _takes_bytes(live: Tensor, saved: Tensor) -> bool:
    return (
        type(live) in (Tensor, nn.Parameter)
        and live.layout is torch.strided
        and live.device.type == saved.device.type == "cpu"
        and live.is_contiguous()
        and (live.dtype, live.shape) == (saved.dtype, saved.shape)
        and not (live.is_quantized or live.is_conj() or live.is_neg() or live.is_inference())
        and live.numel() > 0
    )


def _apart(pairs: Mapping[str, tuple[Tensor, Tensor]]) -> tuple[dict[str, tuple[Tensor, Tensor]], dict[str, str]]:
    """Returns the pairs whose memory no other pair writes to otherwise; and of every name, whose pair that is.

    Tied tensors are one pair under several names. Where tensors overlap and are not the same, the order of loading says
    what they hold in the end: they are left out.
    """
    by_memory: dict[tuple[int, int], dict[int, list[str]]] = {}
    for name, (live, saved) in pairs.items():
        memory = live.data_ptr(), live.data_ptr() + live.numel() * live.element_size()
        by_memory.setdefault(memory, {}).setdefault(saved.data_ptr(), []).append(name)
    spans = sorted(by_memory)
    lapped = {span for one, other in itertools.pairwise(spans) if other[0] < one[1] for span in (one, other)}
    alone: dict[str, tuple[Tensor, Tensor]] = {}
    same: dict[str, str] = {}
    for memory, sources in by_memory.items():
        if memory not in lapped and len(sources) == 1:
            (names,) = sources.values()
            alone[names[0]] = pairs[names[0]]
            same |= dict.fromkeys(names, names[0])
    return alone, same
