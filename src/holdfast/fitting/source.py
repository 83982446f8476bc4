"""What is to be loaded: the tensors of one role of a file, or tensors that are there already, under checked names."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from holdfast.errors import CheckpointMismatch, ConfigError
from holdfast.fitting.class_names import class_names
from holdfast.formats import LazyTensor, OpenedCheckpoint, open_checkpoint

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
    """

    where: str
    role: str | None
    tensors: dict[str, Tensor | LazyTensor]
    file_names: dict[str, str]
    classes: list[str] | None
    opened: OpenedCheckpoint | None
    notes: tuple[str, ...]
    all_tensors: dict[str, Tensor | LazyTensor]

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
        """Whether the names stand in the order of the model that was saved; the safetensors library sorts them."""
        return self.opened is None or not self.opened.kind.startswith("safetensors")

    def optimizer_state(self) -> dict[str, Any]:
        """Returns the state of the file's one optimizer. Raises CheckpointMismatch when it has none, or several."""
        state = self.opened.optimizer if self.opened is not None else None
        if state is None:
            raise CheckpointMismatch(
                f"Loading an optimizer's state from {self.where}: it holds none; expected one beside the weights. "
                "Leave the optimizer out, and it begins fresh."
            )
        return state


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
    notes: list[str] = []
    dense = {name: tensor for name, tensor in found.items() if isinstance(tensor, (LazyTensor, torch.Tensor))}
    if others := [name for name in found if name not in dense and not name.endswith("_extra_state")]:
        notes.append(f"not dense tensors, and left out: {', '.join(others[:4])}{' …' if len(others) > 4 else ''}")
    if opened is not None and len(opened.roles) > 1:
        notes.append(f"the file also holds {', '.join(sorted(opened.roles.keys() - {role}))}")
    names = _renamed(dense, rename, prefix, where)
    return Weights(
        where,
        role,
        {name: dense[own] for name, own in names.items()},
        names,
        class_names(opened.metadata) if opened is not None else None,
        opened,
        tuple(notes),
        dense,
    )


def _renamed(tensors: Mapping[str, Any], rename: Sequence[str], prefix: str, where: str) -> dict[str, str]:
    """Returns new name → name in the file."""
    rules = [_rule(rule) for rule in rename]
    names: dict[str, str] = {}
    for own in tensors:
        if not own.startswith(prefix):
            continue
        name = own[len(prefix) :].lstrip(".") if prefix else own
        for pattern, replacement in rules:
            name = pattern.sub(replacement, name)
        if name in names:
            raise CheckpointMismatch(
                f"Renaming the tensors of {where}: {names[name]} and {own} would both be called {name}; expected a "
                "name for each. Make the rule narrower."
            )
        if name:
            names[name] = own
    if tensors and not names:
        raise CheckpointMismatch(
            f"Choosing tensors of {where}: no name is left with the prefix {prefix!r}; its names begin "
            f"{', '.join(list(tensors)[:3])}. Give a prefix of these."
        )
    return names


def _rule(rule: str) -> tuple[re.Pattern[str], str]:
    pattern, arrow, replacement = rule.partition("=>")
    try:
        compiled = re.compile(pattern.strip())
        compiled.sub(replacement.strip(), "")  # a reference to a group that is not there shows now
    except (re.error, IndexError) as error:
        raise ConfigError(f"--rename {rule!r}: not a regular expression and its replacement ({error}).") from error
    if not arrow or not pattern:
        raise ConfigError(f"--rename {rule!r}: expected 'regex=>replacement', such as '^encoder\\.=>backbone.'.")
    return compiled, replacement.strip()
