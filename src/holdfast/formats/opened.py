"""`open_checkpoint`: any file or folder with weights, opened without running any of it.

It joins the readers of this room: `sniff` says what there is, a reader gives the tree, `roles` says what its parts are
for. Values are read when they are asked for.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from holdfast.errors import CheckpointError, CheckpointMismatch
from holdfast.formats.byte_file import ByteFile, Bytes
from holdfast.formats.folder import about, contents, read_folder, written_by
from holdfast.formats.lazy_tensor import LazyTensor
from holdfast.formats.limits import LIMITS, Limits
from holdfast.formats.maker import made_by
from holdfast.formats.names import plain_names
from holdfast.formats.readers import has_reader, no_weights, read_directory, read_index, read_place, read_tree
from holdfast.formats.remarks import refuse_pieces, remarks
from holdfast.formats.role_names import with_averages
from holdfast.formats.roles import Roles, find_roles
from holdfast.formats.safetensors_file import noted_aliases, read_safetensors
from holdfast.formats.sniff import Sniffed, a, sniff
from holdfast.formats.zip_archive import ZipArchive

if TYPE_CHECKING:
    import torch

# Layouts that hold a program's weights and nothing else, and what writes them.
_PROGRAMS = {"TorchScript": "torch.jit", "torch.export program": "torch.export"}


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
        notes: what to know before trusting that it is all: that it is one shard of several.
    """

    def __init__(
        self, path: str, kind: str, tree: Any, roles: Roles, made: str | None, notes: tuple[str, ...] = ()
    ) -> None:
        self.path = path
        self.kind = kind
        self.made_by = made
        self.tree = tree
        self.roles: dict[str, dict[str, Any]] = roles.weights
        self.optimizers = roles.optimizers
        self.schedules = roles.schedules
        self.metadata = roles.metadata
        self.notes = notes
        self._modules = roles.modules

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
                f"Opening {self.path}: it is {a(self.kind)} without weights{self._instead()}; expected names with "
                "tensors. Is it the right file?"
            )
        if name not in self.roles:
            asked = f"no weights called {name!r}" if name else "several weights and none that is obvious"
            raise CheckpointMismatch(
                f"Opening {self.path}: it holds {asked}; it has {', '.join(sorted(self.roles))}. Choose one of "
                "these (role=, --role)."
            )
        return self.roles[name]

    def _instead(self) -> str:
        """Returns what there is in the place of weights, in words."""
        held = [f"the optimizer's state {name!r}" for name in self.optimizers]
        held += [repr(name) for name in self.metadata if name != "value"]
        return f" (it holds {', '.join(held[:4])}{' …' if len(held) > 4 else ''})" if held else ""

    def weights(self, role: str | None = None, *, names: Literal["plain", "file"] = "plain") -> dict[str, torch.Tensor]:
        """Returns name → tensor on the CPU of one role; tied tensors share their memory.

        Args:
            role: "model", "ema" …; None for the obvious one: "model", or the only one.
            names: "plain" leaves out the words of wrappers (`module.`, `_orig_mod.` …, see `names.py`) and their
                counters; "file" gives the file's own names.

        Raises:
            CheckpointMismatch: there is no such role, or none is obvious.
            CheckpointCorrupt: the bytes are not all there, or do not match their checksum.
            CheckpointError: a tensor is of a kind that is not made.
        """
        found = self.role(role)
        others = [n for n, t in found.items() if not isinstance(t, LazyTensor) and not n.endswith("_extra_state")]
        if others:
            raise CheckpointError(f"Reading {self.path}: {others[0]} is {_not_dense(found[others[0]])}")
        tensors = {name: tensor for name, tensor in found.items() if isinstance(tensor, LazyTensor)}
        if names == "plain":
            tensors = {plain: tensors[name] for name, plain in self.plain_names(role).items()}
        from holdfast.formats.proving import read_all

        read_all(tensors.values())
        return {name: tensor.to_torch() for name, tensor in tensors.items()}

    def plain_names(self, role: str | None = None) -> dict[str, str]:
        """Returns the file's name → the name without wrappers' words, for the tensors of one role. Raises as `role`.

        Names that we wrote ourselves are plain already. Those of a whole module, and of a program with a tree of
        modules, have no words in front that are not their own layers'.
        """
        found = self.role(role)
        dense = [name for name, tensor in found.items() if isinstance(tensor, LazyTensor)]
        if self.kind.startswith("Holdfast"):
            return {name: name for name in dense}
        whole = any(self.roles[name] is found for name in self._modules if name in self.roles)
        return plain_names(dense, in_front=not whole and self.made_by not in _PROGRAMS.values())

    def __repr__(self) -> str:
        parts = ", ".join(f"{role} ({len(tensors)} tensors)" for role, tensors in self.roles.items())
        return f"OpenedCheckpoint({self.path!r}, {self.kind}, {parts or 'no weights'})"


def open_checkpoint(path: str | os.PathLike[str], *, limits: Limits = LIMITS) -> OpenedCheckpoint:
    """Opens a checkpoint of any program: its structure at once, its values when they are asked for.

    Nothing in it is run, imported or called. Reads what `torch.save` ever wrote, pickles, safetensors (also sharded and
    sliced), TorchScript, `torch.export` programs, directories of torch.distributed.checkpoint, `.npz`, gzip'd files,
    folders that transformers, accelerate and Lightning leave, and Holdfast's own runs (`runs/x@best`), checkpoints and
    files.

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
    return open_sniffed(where, sniff(where, limits), limits)


def open_sniffed(where: str, found: Sniffed, limits: Limits) -> OpenedCheckpoint:
    """Opens what has been sniffed at already. Raises as `open_checkpoint`."""
    if found.kind in ("Holdfast checkpoint", "Holdfast run"):
        from holdfast.formats.own import open_checkpoint_directory, open_run

        return _own(where, found.kind, (open_run if "run" in found.kind else open_checkpoint_directory)(where))
    if found.file is not None:
        opened = open_checkpoint(os.path.join(where, found.file), limits=limits)  # noqa: PTH118
        opened.metadata = {**about(where), **opened.metadata}
        return opened
    if found.advice is not None:
        raise no_weights(where, found)
    if found.kind == "DCP directory":
        tree = read_directory(where, limits)
        made = made_by(tree) or "torch.distributed.checkpoint"
        return OpenedCheckpoint(where, found.kind, tree, find_roles(tree, where), made)
    if found.kind == "unpacked torch zip":
        tree = read_place(where, limits)
        return OpenedCheckpoint(where, found.kind, tree, find_roles(tree, where), made_by(tree))
    if found.kind == "folder of weights":
        held = contents(where, sorted(os.listdir(where)))  # noqa: PTH208
        tree = read_folder(where, held, lambda inner: read_place(inner, limits))
        return OpenedCheckpoint(where, found.kind, tree, find_roles(tree, where), written_by(held))
    if found.kind == "safetensors index":
        tensors, metadata = read_index(ByteFile(where), limits)
        return OpenedCheckpoint(where, found.kind, tensors, _named_tensors(tensors, metadata), None)
    file = found.archive.file if found.archive else ByteFile(where)
    if not has_reader(found.kind):
        from holdfast.formats.wrapped import unwrapped

        opened = _open(*unwrapped(file, found.kind, limits), limits)
        opened.path = where
        return opened
    return _open(file, found.kind, found.kind, limits, found.archive)


def _not_dense(record: Any) -> str:
    """Returns what is in the place of a dense tensor, and what to do."""
    if "DTensor" in getattr(record, "full_name", ""):
        return (
            "one process's piece of a tensor that several share; expected all of it. Open the folder that "
            "torch.distributed.checkpoint wrote, or save with get_model_state_dict(…, full_state_dict=True)."
        )
    if "_rebuild_meta_tensor" in getattr(record, "full_name", ""):
        return (
            "a tensor of the meta device, which has a shape and no values; expected values. They were never in this "
            "file: save the model once its weights are loaded. The others can be read by .role()."
        )
    return (
        f"{record!r}; expected a dense tensor. Quantised, sparse and wrapped tensors are not made; read the others by "
        ".role()."
    )


def _open(file: Bytes, kind: str, shown: str, limits: Limits, archive: ZipArchive | None = None) -> OpenedCheckpoint:
    if kind == "safetensors":
        tensors, metadata = read_safetensors(file)
        if "holdfast" in metadata:
            from holdfast.formats.own import open_model_file

            return _own(file.where, "Holdfast model file", open_model_file(file, tensors, metadata["holdfast"]))
        return OpenedCheckpoint(
            file.where, shown, tensors, _named_tensors(tensors, metadata), None, remarks(file.where, tensors, None)
        )
    tree = read_tree(file, kind, limits, archive)
    if kind in _PROGRAMS:
        programs = {"model": tree} if kind == "TorchScript" else tree
        weights = {name: tensors for name, tensors in programs.items() if tensors}
        return OpenedCheckpoint(file.where, shown, programs, Roles(weights, {}, {}, {}), _PROGRAMS[kind])
    made, roles = made_by(tree), find_roles(tree, file.where)
    if made is not None and made.startswith("DeepSpeed"):
        refuse_pieces(file.where, tree, roles.weights.get("model", {}))
    return OpenedCheckpoint(file.where, shown, tree, roles, made, remarks(file.where, tree, made))


def _named_tensors(tensors: Mapping[str, LazyTensor], metadata: Mapping[str, Any]) -> Roles:
    """Returns what a safetensors file or its index holds, tied tensors under all their names."""
    whole = {**tensors, **noted_aliases(tensors, metadata)}
    return Roles(with_averages({"model": whole}), {}, {}, dict(metadata))


def _own(where: str, kind: str, roles: Roles) -> OpenedCheckpoint:
    return OpenedCheckpoint(where, kind, {**roles.weights, **roles.optimizers}, roles, _writer(roles.metadata))


def _writer(metadata: Mapping[str, Any]) -> str:
    return str(metadata.get("written_by") or "holdfast")
