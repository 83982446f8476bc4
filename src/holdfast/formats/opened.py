"""`open_checkpoint`: any file or folder with weights, opened without running any of it.

It joins the readers of this room: `sniff` says what there is, a reader gives the tree, `roles` says what its parts are
for. Values are read when they are asked for.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from holdfast.errors import CheckpointError, CheckpointMismatch
from holdfast.formats.byte_file import ByteFile, Bytes, MemoryFile, inflate
from holdfast.formats.lazy_tensor import LazyTensor
from holdfast.formats.limits import LIMITS, Limits
from holdfast.formats.maker import made_by
from holdfast.formats.numpy_file import read_npy, read_npz
from holdfast.formats.pickle_machine import read_pickle
from holdfast.formats.roles import Roles, find_roles
from holdfast.formats.safetensors_file import read_safetensors
from holdfast.formats.shards import read_shards
from holdfast.formats.sniff import Sniffed, sniff, sniff_bytes
from holdfast.formats.torch_legacy import read_torch_legacy
from holdfast.formats.torch_tar import read_torch_tar
from holdfast.formats.torch_zip import read_torch_zip

if TYPE_CHECKING:
    import torch


class OpenedCheckpoint:
    """A file or folder with weights, opened.

    Attributes:
        path: what was opened.
        kind: what it is: "torch zip", "safetensors", "Holdfast checkpoint" …; "torch zip in gzip".
        made_by: the program that wrote it, where that can be told.
        tree: everything that is in it: plain values, inert records, lazy tensors.
        roles: role → name → lazy tensor: "model", "ema", "generator" …. A tensor that is none we can make (quantised,
            sparse) is an inert record of what it is made of.
        optimizers, schedules: by the file's names for them; tensors in them are lazy.
        metadata: everything else, as plain values: epoch, arguments, metrics.
    """

    def __init__(self, path: str, kind: str, tree: Any, roles: Roles, made: str | None) -> None:
        self.path = path
        self.kind = kind
        self.made_by = made
        self.tree = tree
        self.roles: dict[str, dict[str, Any]] = roles.weights
        self.optimizers = roles.optimizers
        self.schedules = roles.schedules
        self.metadata = roles.metadata

    @property
    def optimizer(self) -> dict[str, Any] | None:
        """The state of the one optimizer; None when there is none. Raises CheckpointMismatch when there are several."""
        if len(self.optimizers) > 1 and "optimizer" not in self.optimizers:
            raise CheckpointMismatch(
                f"{self.path} holds several optimizers: {', '.join(self.optimizers)}. Choose one: .optimizers[name]."
            )
        return self.optimizers.get("optimizer") or next(iter(self.optimizers.values()), None)

    def role(self, name: str | None = None) -> dict[str, Any]:
        """Returns name → lazy tensor of one role, of the obvious one without a name. Raises as `weights`."""
        if name is None and self.roles:
            name = "model" if "model" in self.roles else next(iter(self.roles)) if len(self.roles) == 1 else None
        if not self.roles:
            raise CheckpointMismatch(
                f"Opening {self.path}: it is a {self.kind} without weights; expected names with tensors. Is it the "
                "right file?"
            )
        if name not in self.roles:
            asked = f"no weights called {name!r}" if name else "several weights and none that is obvious"
            raise CheckpointMismatch(
                f"Opening {self.path}: it holds {asked}; it has {', '.join(sorted(self.roles))}. Choose one of these."
            )
        return self.roles[name]

    def weights(self, role: str | None = None) -> dict[str, torch.Tensor]:
        """Returns name → tensor on the CPU of one role; tied tensors share their memory.

        Args:
            role: "model", "ema" …; None for the obvious one: "model", or the only one.

        Raises:
            CheckpointMismatch: there is no such role, or none is obvious.
            CheckpointCorrupt: the bytes are not all there, or do not match their checksum.
            CheckpointError: a tensor is of a kind that is not made.
        """
        found = self.role(role)
        if others := [name for name, tensor in found.items() if not isinstance(tensor, LazyTensor)]:
            others = [name for name in others if not name.endswith("_extra_state")]
            if others:
                raise CheckpointError(
                    f"Reading {self.path}: {others[0]} is {found[others[0]]!r}; expected a dense tensor. "
                    "Quantised, sparse and wrapped tensors are not made; read the others by .role()."
                )
        return {name: tensor.to_torch() for name, tensor in found.items() if isinstance(tensor, LazyTensor)}

    def __repr__(self) -> str:
        parts = ", ".join(f"{role} ({len(tensors)} tensors)" for role, tensors in self.roles.items())
        return f"OpenedCheckpoint({self.path!r}, {self.kind}, {parts or 'no weights'})"


def open_checkpoint(path: str | os.PathLike[str], *, limits: Limits = LIMITS) -> OpenedCheckpoint:
    """Opens a checkpoint of any program: its structure at once, its values when they are asked for.

    Nothing in it is run, imported or called. Reads what `torch.save` ever wrote, pickles, safetensors (also sharded),
    `.npz`, gzip'd files, and Holdfast's own runs (`runs/x@best`), checkpoints and files.

    Args:
        path: a file, a folder, or a run with `@best`, `@last` or `@1200`.
        limits: what reading may cost.

    Raises:
        CheckpointError: there is nothing there, it holds no weights that we read (the message says what it is and what
            to do), or it asks for more than the limits allow.
        CheckpointCorrupt: it is damaged or was cut.
    """
    where = os.fspath(path)
    if "@" in where and not os.path.exists(where):  # noqa: PTH110  # see byte_file
        from holdfast.formats.own import open_run

        return _own(where, "Holdfast run", open_run(where))
    found = sniff(where, limits)
    if found.kind in ("Holdfast checkpoint", "Holdfast run"):
        from holdfast.formats.own import open_checkpoint_directory, open_run

        return _own(where, found.kind, (open_run if "run" in found.kind else open_checkpoint_directory)(where))
    if found.file is not None:
        return open_checkpoint(os.path.join(where, found.file), limits=limits)  # noqa: PTH118
    if found.advice is not None:
        raise _no_weights(where, found)
    file = ByteFile(where)
    if found.kind == "safetensors index":
        tensors, metadata = read_shards(file, lambda shard: open_checkpoint(shard, limits=limits).role())
        return OpenedCheckpoint(where, found.kind, tensors, Roles({"model": tensors}, {}, {}, metadata), None)
    if found.kind == "gzip":
        data = inflate(file, 0, file.num_bytes, limits.may_inflate_to(file.num_bytes), gzip=True)
        inner = MemoryFile(where, bytes(data))
        sniffed = sniff_bytes(inner, limits)
        if sniffed.advice is not None or sniffed.kind == "gzip":
            raise _no_weights(where, sniffed._replace(kind=f"{sniffed.kind} in gzip"))
        return _open(inner, sniffed.kind, limits, f"{sniffed.kind} in gzip")
    return _open(file, found.kind, limits, found.kind)


def _open(file: Bytes, kind: str, limits: Limits, shown: str) -> OpenedCheckpoint:
    if kind == "safetensors":
        tensors, metadata = read_safetensors(file)
        if "holdfast" in metadata:
            from holdfast.formats.own import open_model_file

            return _own(file.where, "Holdfast model file", open_model_file(file, tensors, metadata["holdfast"]))
        return OpenedCheckpoint(file.where, shown, tensors, Roles({"model": tensors}, {}, {}, dict(metadata)), None)
    tree = _READERS[kind](file, limits)
    return OpenedCheckpoint(file.where, shown, tree, find_roles(tree, file.where), made_by(tree))


def _own(where: str, kind: str, roles: Roles) -> OpenedCheckpoint:
    return OpenedCheckpoint(where, kind, {**roles.weights, **roles.optimizers}, roles, _writer(roles.metadata))


def _writer(metadata: Mapping[str, Any]) -> str:
    return str(metadata.get("written_by") or "holdfast")


def _no_weights(where: str, found: Sniffed) -> CheckpointError:
    return CheckpointError(
        f"Opening {where}: it is a {found.kind}; expected a checkpoint. {found.advice or ''}".strip()
    )


def _read_plain_pickle(file: Bytes, limits: Limits) -> Any:
    """Returns what `pickle.dump` wrote; torch puts each storage into it as a whole old file of its own."""

    def nested(data: bytes) -> Any:
        return read_torch_legacy(MemoryFile(file.where, data), limits).tree

    return read_pickle(file.whole(), file.where, nested=nested, limits=limits).value


_READERS: dict[str, Callable[[Bytes, Limits], Any]] = {
    "torch zip": lambda file, limits: read_torch_zip(file, limits).tree,
    "torch legacy": lambda file, limits: read_torch_legacy(file, limits).tree,
    "torch tar": lambda file, limits: read_torch_tar(file, limits).tree,
    "pickle": _read_plain_pickle,
    "npz": read_npz,
    "npy": lambda file, _: {"array": read_npy(file)},
}
