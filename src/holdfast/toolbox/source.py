"""One model of a checkpoint, opened to be compared, converted or averaged: its tensors by name, one at a time.

Values are read when they are asked for and not kept, so that a checkpoint larger than the memory can be gone through.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from holdfast.errors import CheckpointError, first_of
from holdfast.formats.lazy_tensor import LazyTensor, Storage, StoredBytes
from holdfast.formats.opened import OpenedCheckpoint, open_checkpoint
from holdfast.toolbox.ties import ties_of

if TYPE_CHECKING:
    from torch import Tensor

Names = Literal["plain", "file"]
_NOT_FACTS = {"step", "metrics", "written_by", "parts"}


@dataclass(frozen=True)
class Source:
    """One model of an opened checkpoint.

    Attributes:
        opened: the checkpoint.
        role: which of its models.
        tensors: name → lazy tensor, in the file's order.
        file_names: name → what the file calls it.
        ties: name → the first name that stands for the same tensor, for every name that is not the first.
        left_out: names of what is no tensor (`_extra_state`), and of the counters of wrappers.
    """

    opened: OpenedCheckpoint
    role: str
    tensors: dict[str, LazyTensor]
    file_names: dict[str, str]
    ties: dict[str, str]
    left_out: list[str]

    @property
    def path(self) -> str:
        """What was opened."""
        return self.opened.path

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name → shape."""
        return {name: tensor.shape for name, tensor in self.tensors.items()}

    @property
    def is_ours(self) -> bool:
        """Whether Holdfast wrote it, so that what stands beside the weights has the meaning we know."""
        return self.opened.kind.startswith("Holdfast")

    @property
    def facts(self) -> dict[str, Any]:
        """Classes, preprocessing, architecture …, as our own files carry them; empty for the files of others."""
        return {k: v for k, v in self.opened.metadata.items() if k not in _NOT_FACTS} if self.is_ours else {}


class TensorReader:
    """Reads tensors one after another and keeps the memory of the last one alone."""

    def __init__(self) -> None:
        self._last: tuple[StoredBytes, StoredBytes] | None = None

    def read(self, tensor: LazyTensor) -> Tensor:
        """Returns a tensor on the CPU, in memory that is given back once nobody uses it.

        Raises:
            CheckpointCorrupt: its bytes are not all there, or do not match their checksum.
            CheckpointError: it is of a type that this torch does not make.
        """
        data = tensor.storage.data
        if type(tensor) is not LazyTensor or type(data) is not StoredBytes:
            return tensor.to_torch()
        if self._last is None or self._last[0] is not data:
            # A storage keeps what it has read, for all tensors over it: this one is dropped with the next.
            again = StoredBytes(data.where, data.key, data.num_bytes, data.location, data.swap_bytes)
            again.fetch = data.fetch
            self._last = data, again
        storage = Storage(self._last[1], tensor.storage.dtype, tensor.storage.num_values, tensor.storage.start)
        view = LazyTensor(storage, tensor.dtype, tensor.offset, tensor.shape, tensor.strides, flags=tensor.flags)
        return view.to_torch()


def open_any(path: str | os.PathLike[str]) -> OpenedCheckpoint:
    """Opens a checkpoint, `~` included. Raises as `open_checkpoint`."""
    return open_checkpoint(os.path.expanduser(os.fspath(path)))  # noqa: PTH111  # `runs/x@best` is no path


def select_model(opened: OpenedCheckpoint, role: str | None = None, names: Names = "plain") -> Source:
    """Returns one model of a checkpoint.

    Args:
        role: "model", "ema" …; None for the obvious one.
        names: "plain" without the words of wrappers (`module.`) and their counters, "file" as the file has them.

    Raises:
        CheckpointMismatch: there is no such role, or none is obvious.
        CheckpointError: a tensor is of a kind that is not made (quantised, sparse).
    """
    found = opened.role(role)
    role = next(name for name, state in opened.roles.items() if state is found)
    lazy = {name: value for name, value in found.items() if isinstance(value, LazyTensor)}
    others = [name for name in found if name not in lazy]
    if strange := [f"{name}: {found[name]!r}" for name in others if not name.endswith("_extra_state")]:
        raise CheckpointError(
            f"Reading {opened.path}: {len(strange)} of its {len(found)} tensors are not dense ones:\n"
            f"{first_of(strange)}\nQuantised, sparse and wrapped tensors are not made, nor those of the meta device, "
            "which have no values. Make them dense where they were made, and save again."
        )
    plain = {name: name for name in lazy} if names == "file" else opened.plain_names(role)
    tensors = {new: lazy[name] for name, new in plain.items()}
    others += [name for name in lazy if name not in plain]
    return Source(opened, role, tensors, {new: name for name, new in plain.items()}, ties_of(tensors), others)
