"""What is to be loaded: the tensors of one role of a file, or tensors that are there already, under checked names."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from holdfast.errors import CheckpointMismatch
from holdfast.fitting.class_names import class_names
from holdfast.fitting.optimizer_choice import beside, choose_optimizer, owners_of
from holdfast.fitting.optimizer_proof import never_learned
from holdfast.fitting.renaming import rename as rename_all
from holdfast.fitting.row_names import names_of_row
from holdfast.formats import LazyTensor, OpenedCheckpoint, open_checkpoint
from holdfast.formats.safetensors_file import Extent

Source = str | os.PathLike[str] | OpenedCheckpoint | Mapping[str, Any]


@dataclass(frozen=True)
class Weights:
    """Tensors to load.

    Attributes:
        where: the file, for messages.
        role: which of its models; None for tensors that were given as they are.
        tensors: name → tensor, read when it is asked for.
        file_names: name → the file's own name, where --rename or --prefix changed it.
        classes: of the file's model, None when nothing says.
        opened: the file, None for tensors.
        notes: what else there is to know.
        all_tensors: the file's own names → tensor, also of what --prefix left out, in the file's order.
        extra_state: names of what modules keep beside tensors (`get_extra_state`), which is not loaded.
    """

    where: str
    role: str | None
    tensors: dict[str, Tensor | LazyTensor]
    file_names: dict[str, str]
    classes: list[str] | None
    opened: OpenedCheckpoint | None
    notes: tuple[str, ...]
    all_tensors: dict[str, Tensor | LazyTensor]
    extra_state: tuple[str, ...] = ()

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name → extents."""
        return {name: tuple(tensor.shape) for name, tensor in self.tensors.items()}

    def read(self, name: str) -> Tensor:
        """Returns one tensor on the CPU, or where it was given. Raises CheckpointCorrupt."""
        tensor = self.tensors[name]
        return tensor.to_torch() if isinstance(tensor, LazyTensor) else tensor.detach()

    @property
    def keeps_order(self) -> bool:
        """Whether the names stand in the order of the model that was saved.

        The safetensors library sorts them, and so do indexes of shards; told by where the tensors of this role lie,
        and by the names. Holdfast's own files keep the order.
        """
        if self.opened is None or self.opened.kind.startswith("Holdfast"):
            return True
        lazy = {name: tensor for name, tensor in self.all_tensors.items() if isinstance(tensor, LazyTensor)}
        from_safetensors = any(isinstance(tensor.storage.data.read_into, Extent) for tensor in lazy.values())
        return not from_safetensors and not _is_sorted(lazy)

    def optimizer_name(self, name: str | None = None, wanted: Collection[str] = ()) -> str:
        """Returns which of the file's optimizers drove this role.

        Args:
            name: the one that is meant, to be taken whatever it is called.
            wanted: names in the file of what the live optimizer's parameters come from, where that is known.

        Raises:
            CheckpointMismatch: it has none, or none of this name, or it is not proven which.
        """
        found = self.opened.optimizers if self.opened is not None else {}
        if not found:
            raise CheckpointMismatch(
                f"Loading an optimizer's state from {self.where}: it holds none; expected one beside the weights. "
                "Leave the optimizer out, and it begins fresh."
            )
        if name is not None and name not in found:
            raise CheckpointMismatch(
                f"Loading an optimizer's state from {self.where}: it has none called {name!r}; expected one of "
                f"{', '.join(found)}. Choose one of these."
            )
        if name is not None:
            return name
        shapes = {own: tuple(tensor.shape) for own, tensor in self.all_tensors.items()}
        return choose_optimizer(
            found, shapes, tensors=self.all_tensors, role=self.role, roles=self._roles, wanted=wanted,
            source=self.where,
        )  # fmt: skip

    def optimizer_state(self, name: str | None = None, wanted: Collection[str] = ()) -> dict[str, Any]:
        """Returns the state of the optimizer that drove this role. Args and Raises: as `optimizer_name`."""
        chosen = self.optimizer_name(name, wanted)
        assert self.opened is not None  # else it has no name
        return self.opened.optimizers[chosen]

    def beside_optimizer(self, name: str) -> list[dict[str, tuple[int, ...]]]:
        """Returns what else of the file an optimizer may hold: label → shape, in a table for each other model.

        Other models' parameters, but for those that another optimizer's name claims, and tensors that are no model's:
        what a criterion has learned.
        """
        if self.opened is None:
            return []
        owners = owners_of(self.opened.optimizers, self.opened.roles)
        parts = beside(name, self.role, self.opened.roles, owners)
        loose = dict(_loose(self.opened.metadata, ""))
        tables = []
        for part, tensors in [*parts.items(), ("beside the models", loose)]:
            shapes = {own: tuple(t.shape) for own, t in tensors.items() if isinstance(t, (LazyTensor, Tensor))}
            out = never_learned(shapes, {own: tensors[own] for own in shapes})
            tables.append({f"{own} ({part})": shape for own, shape in shapes.items() if own not in out})
        return [table for table in tables if table]

    @property
    def _roles(self) -> dict[str, dict[str, Any]]:
        return self.opened.roles if self.opened is not None else {}


def weights_of(source: Source, role: str | None = None, rename: Sequence[str] = (), prefix: str = "") -> Weights:
    """Opens what is to be loaded.

    Args:
        source: a path, an opened checkpoint, or name → tensor.
        role: which model of several; the obvious one without it.
        rename: `regex=>replacement`, applied to every name one after another.
        prefix: only the names that begin so, without it.

    Raises:
        ConfigError: a rule that is none.
        CheckpointMismatch: there is no such role, none is obvious, or the rules leave no tensor or two of one name.
        CheckpointError: the file cannot be read.
    """
    opened = None
    if isinstance(source, Mapping):
        where, found, role = "the given tensors", dict(source), None
    else:
        opened = source if isinstance(source, OpenedCheckpoint) else open_checkpoint(source)
        where, found = opened.path, opened.role(role)
        role = role or next((name for name, tensors in opened.roles.items() if tensors is found), None)
    notes: list[str] = list(opened.notes) if opened is not None else []
    dense = {name: tensor for name, tensor in found.items() if isinstance(tensor, (LazyTensor, torch.Tensor))}
    if others := [name for name in found if name not in dense and not name.endswith("_extra_state")]:
        notes.append(f"not dense tensors, and left out: {', '.join(others[:4])}{' …' if len(others) > 4 else ''}")
    if opened is not None and len(opened.roles) > 1:
        notes.append(f"the file also holds {', '.join(sorted(opened.roles.keys() - {role}))}")
    extra = tuple(name for name in found if name.endswith("_extra_state"))
    if extra:
        notes.append(f"not loaded, for only the module's own code understands it: {', '.join(extra[:4])}")
    names = _renamed(dense, rename, prefix, where)
    if opened is not None and not rename and not prefix and (named := names_of_row(dense, opened.roles)):
        other, by_number = named
        names = {name: number for number, name in by_number.items()}
        notes.append(f"its {len(names)} tensors have no names: those of {other!r}'s parameters, of the same shapes")
    return Weights(
        where,
        role,
        {name: dense[own] for name, own in names.items()},
        names,
        class_names(opened.metadata) if opened is not None else None,
        opened,
        tuple(notes),
        dense,
        extra,
    )


def _is_sorted(tensors: Mapping[str, LazyTensor]) -> bool:
    """Returns whether names were sorted when they were written, as safetensors does within each type."""
    by_type: dict[str, list[str]] = {}
    for name, tensor in tensors.items():
        by_type.setdefault(tensor.dtype, []).append(name)
    return all(names == sorted(names) for names in by_type.values()) and len(tensors) > 1


def _loose(value: Any, path: str) -> Iterator[tuple[str, LazyTensor]]:
    """Yields the tensors among a file's other values, by where they stand."""
    if isinstance(value, LazyTensor):
        yield path, value
    elif isinstance(value, (dict, list, tuple)):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _loose(inner, f"{path}.{key}" if path else str(key))


def _renamed(tensors: Mapping[str, Any], rules: Sequence[str], prefix: str, where: str) -> dict[str, str]:
    """Returns new name → name in the file."""
    without = {own: own[len(prefix) :].lstrip(".") if prefix else own for own in tensors if own.startswith(prefix)}
    if tensors and not without:
        raise CheckpointMismatch(
            f"Choosing tensors of {where}: no name is left with the prefix {prefix!r}; its names begin "
            f"{', '.join(list(tensors)[:3])}. Give a prefix of these."
        )
    renamed = rename_all(without.values(), rules, where)
    return {renamed[name]: own for own, name in without.items()}
