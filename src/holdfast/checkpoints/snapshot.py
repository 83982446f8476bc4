"""A copy of a state, made while the training loop goes on.

Parameters and optimizer slots do not change between two optimizer steps. So only what may change at any moment
(buffers, counters, whatever no optimizer owns) is copied before the loop goes on; the rest is copied beside the next
forward and backward pass, and the next optimizer step waits for it. A tensor that was changed all the same is
noticed by its version counter, and such a snapshot is never used.
"""

from __future__ import annotations

import mmap
import threading
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from holdfast.checkpoints.deferred import Deferred, copies_by_identity
from holdfast.checkpoints.flatten import FlatState
from holdfast.checkpoints.steady import is_steady, version_of
from holdfast.checkpoints.tensors import tensor_bytes
from holdfast.errors import CheckpointError

_ALIGNMENT = 64  # bytes; a cache line
_SAME_SIZE = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class SnapshotMemory:
    """Memory for one copy of a state: taken at the first snapshot, used again by the next, given back at the end."""

    def __init__(self) -> None:
        self._memory = torch.empty(0, dtype=torch.uint8)
        self._layout: tuple[bool, list[tuple[torch.dtype, torch.Size]]] | None = None
        self._targets: list[Tensor] = []

    def targets(self, tensors: Iterable[Tensor]) -> list[Tensor]:
        """Returns an uninitialised row-major tensor on the CPU for each of `tensors`; all share the one memory."""
        tensors = list(tensors)
        # Only page-locked memory takes copies from a GPU that run beside its work.
        pinned = any(tensor.is_cuda for tensor in tensors)
        layout = (pinned, [(tensor.dtype, tensor.shape) for tensor in tensors])
        if layout != self._layout:  # a loop saves the same shapes over and over; dividing costs 5 µs a tensor
            self._targets, self._layout = self._divide(tensors, pinned=pinned), layout
        return self._targets

    def holds(self, tensor: Tensor) -> bool:
        """Whether a tensor lies in this memory."""
        start = self._memory.data_ptr()
        return start <= tensor.data_ptr() < start + self._memory.numel()

    def _divide(self, tensors: list[Tensor], *, pinned: bool) -> list[Tensor]:
        sizes = [-(-tensor.numel() * tensor.element_size() // _ALIGNMENT) * _ALIGNMENT for tensor in tensors]
        if self._memory.numel() < sum(sizes) or (pinned and not self._memory.is_pinned()):
            # Given back first: never two copies at once.
            self._memory, self._targets, self._layout = torch.empty(0, dtype=torch.uint8), [], None
            self._memory = _allocate(sum(sizes), pinned=pinned)
        targets, start = [], 0
        for tensor, size in zip(tensors, sizes, strict=True):
            num_bytes = tensor.numel() * tensor.element_size()
            targets.append(self._memory[start : start + num_bytes].view(tensor.dtype).view(tensor.shape))
            start += size
        return targets


class _Copy(NamedTuple):
    """One tensor to copy: from, to, and the version that `source` had when the snapshot was asked for."""

    part: str
    name: str
    source: Tensor
    target: Tensor
    version: int


class Snapshot:
    """The state of the parts at one moment.

    Args:
        states: what to copy, by part; what is deferred is taken apart on the copy thread.
        steady: data pointers of the tensors that only an optimizer's step changes; see `steady_storages`.
        memory: where the copy goes; nothing else may use it until the snapshot is written.
        memory_for_later: where the copy of what is deferred goes.
    """

    def __init__(
        self,
        states: Mapping[str, FlatState | Deferred],
        steady: set[int],
        memory: SnapshotMemory,
        memory_for_later: SnapshotMemory | None = None,
    ) -> None:
        self._states: dict[str, FlatState] = {}
        self._order = list(states)
        self._deferred = {part: state for part, state in states.items() if isinstance(state, Deferred)}
        self._memory, self._memory_for_later = memory, memory_for_later or SnapshotMemory()
        self._failure: Exception | None = None
        ready = {part: state for part, state in states.items() if isinstance(state, FlatState)}
        named = [(part, name, tensor) for part, state in ready.items() for name, tensor in state.tensors.items()]
        moving = [tensor for one in self._deferred.values() for tensor in one.moving]
        targets = memory.targets([*(tensor for _, _, tensor in named), *moving])
        now: list[_Copy] = [_copy_of("", "", *pair) for pair in zip(moving, targets[len(named) :], strict=True)]
        later: list[_Copy] = []
        copied: dict[str, dict[str, Tensor]] = {part: {} for part in ready}
        for (part, name, tensor), target in zip(named, targets, strict=False):
            copied[part][name] = target
            (later if _can_wait(tensor, steady) else now).append(_copy_of(part, name, tensor, target))
        self._states = {part: replace(state, tensors=copied[part]) for part, state in ready.items()}
        standing = [tensor for one in self._deferred.values() for tensor in one.standing]
        self._watched = [(tensor, version_of(tensor)) for tensor in standing]
        self._streams = _side_streams([c.source for c in (*now, *later)] + standing)
        self._copy(now)
        for device in self._streams:
            self._let_pass(device)
        copies = copies_by_identity(moving, targets[len(named) :])
        for one in self._deferred.values():
            one.hold(copies)
        self._later = later
        self._has_settled = False
        self._settling = threading.Lock()  # the loop and the save thread may both be the first to ask
        self._thread: threading.Thread | None = threading.Thread(
            target=self._copy_later, name="holdfast-copy", daemon=True
        )
        try:
            self._thread.start()
        except RuntimeError:  # Python 3.12 and later start no thread once the main one has ended
            self._thread = None
            self._copy_later()

    def settle(self) -> None:
        """Returns once the live tensors may change: the copies are made, or stand before later work of their GPU."""
        self._join()
        self._look_for_the_last_time()
        if not self._streams:  # a GPU may still read them
            self._release()
        for device in self._streams:
            self._let_pass(device)

    def states(self) -> dict[str, FlatState]:
        """Waits for the copies and returns them.

        Raises:
            CheckpointError: a tensor was changed while it was copied.
        """
        self._join()
        for stream in self._streams.values():
            stream.synchronize()
        self._look_for_the_last_time()
        self._release()
        if self._failure is not None:
            raise self._failure
        return {part: self._states[part] for part in self._order}

    def _join(self) -> None:
        if self._thread is not None:
            self._thread.join()

    def _copy_later(self) -> None:
        try:
            self._take_apart()
            self._copy(self._later)
            self._look_again()
        except Exception as error:  # shown to whoever asks for the states
            self._failure = error

    def _look_for_the_last_time(self) -> None:
        """Looks once more after the copies. Nobody's step begins while it looks, nor looks after a step has begun."""
        with self._settling:
            if not self._has_settled:
                self._has_settled = True
                self._look_again()

    def _look_again(self) -> None:
        """Compares the versions. torch counts a change when it is done; one that was under way shows next time."""
        changed = [f"{c.part}.{c.name}" for c in list(self._later) if version_of(c.source) != c.version]
        if self._failure is None and (changed or any(version_of(t) != version for t, version in list(self._watched))):
            self._failure = CheckpointError(
                f"Taking a snapshot: {', '.join(changed[:3]) or 'a tensor'}{' …' if len(changed) > 3 else ''} changed "
                "before it was copied, and not in an optimizer's step. Call store.settle() before you change weights "
                "in another way, or save with background=False."
            )

    def _release(self) -> None:
        """Lets go of the live tensors: a model that is given up during a slow write gives its memory back."""
        self._later, self._watched, self._deferred = [], [], {}

    def _take_apart(self) -> None:
        """Flattens the deferred parts, and adds their live tensors to those to copy."""
        versions = {id(tensor): version for tensor, version in self._watched}
        states = {part: one.flatten() for part, one in self._deferred.items()}
        live = [
            (part, name, tensor)
            for part, state in states.items()
            for name, tensor in state.tensors.items()
            if not self._memory.holds(tensor)
        ]
        copied: dict[str, dict[str, Tensor]] = {part: {} for part in states}
        for (part, name, source), target in zip(
            live, self._memory_for_later.targets(tensor for _, _, tensor in live), strict=True
        ):
            copied[part][name] = target
            version = versions.get(id(source), version_of(source))
            self._later.append(_Copy(part, name, source, target, version))
        for part, state in states.items():
            self._states[part] = replace(state, tensors={**state.tensors, **copied[part]})

    def _copy(self, copies: Iterable[_Copy]) -> None:
        for copy in copies:
            if copy.source.is_cuda:
                with torch.cuda.stream(self._streams[copy.source.device]):
                    copy.target.copy_(copy.source, non_blocking=True)
            elif copy.source.numel():
                _copy_on_cpu(copy.target, copy.source)

    def _let_pass(self, device: torch.device) -> None:
        """Makes the device's current work wait for the copies so far; the host does not wait."""
        torch.cuda.current_stream(device).wait_stream(self._streams[device])


def _copy_of(part: str, name: str, source: Tensor, target: Tensor) -> _Copy:
    return _Copy(part, name, source.detach(), target, version_of(source))


def _can_wait(tensor: Tensor, steady: set[int]) -> bool:
    return tensor.numel() > 0 and is_steady(tensor, steady)


def _side_streams(tensors: Iterable[Tensor]) -> dict[torch.device, torch.cuda.Stream]:
    """Returns a stream for each GPU that copies beside its work, once what it does now is done."""
    streams = {device: torch.cuda.Stream(device) for device in {t.device for t in tensors if t.is_cuda}}
    for device, stream in streams.items():
        stream.wait_stream(torch.cuda.current_stream(device))
    return streams


def _allocate(num_bytes: int, *, pinned: bool) -> Tensor:
    if pinned or not num_bytes:
        return torch.empty(num_bytes, dtype=torch.uint8, pin_memory=pinned)
    # Private: a forked process that saves has a copy of its own, and does not write into a save of its parent's.
    memory = mmap.mmap(-1, num_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)  # a page fault for every 2 MiB, not for every 4 KiB
    return torch.frombuffer(memory, dtype=torch.uint8)


def _copy_on_cpu(target: Tensor, source: Tensor) -> None:
    """Copies on this thread alone, without holding the interpreter (torch would start a team of threads here)."""
    if source.device.type != "cpu" or source.is_conj() or source.is_neg():
        source = source.cpu().resolve_conj().resolve_neg()
    if source.is_contiguous() or source.element_size() not in _SAME_SIZE:
        np.copyto(np.frombuffer(tensor_bytes(target), np.uint8), np.frombuffer(tensor_bytes(source), np.uint8))
    else:
        same = _SAME_SIZE[source.element_size()]
        np.copyto(target.view(same).numpy(), source.view(same).numpy())
